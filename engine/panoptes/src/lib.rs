//! The program `panoptes`: command line, configuration and service around the engine.

pub mod config;
pub mod exit;
pub mod interfaces;
pub mod message;
pub mod state;
