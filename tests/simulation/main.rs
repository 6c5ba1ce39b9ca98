//! Whole swarms in virtual time: no socket, no file, no clock. Each run follows from the seed that it prints.

mod swarm;
mod world;
