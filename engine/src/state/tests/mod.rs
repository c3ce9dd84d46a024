//! What is told of machines made by hand: [`world`] makes them, [`watch`] writes down what is told.

mod children;
mod connections;
mod containers;
mod hidden;
mod lives;
mod measures;
mod model;
pub(crate) mod watch;
pub(crate) mod world;
