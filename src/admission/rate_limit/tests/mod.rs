mod algorithms;
mod limits;
