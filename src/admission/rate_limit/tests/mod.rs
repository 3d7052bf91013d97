mod algorithms;
mod features;
mod keys;
mod limits;
mod shaping;
