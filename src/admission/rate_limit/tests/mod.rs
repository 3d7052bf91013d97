mod algorithms;
mod asking;
mod contracts;
mod features;
mod keys;
mod limits;
mod shaping;
