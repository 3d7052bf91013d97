mod algorithms;
mod asking;
mod features;
mod keys;
mod limits;
mod shaping;
