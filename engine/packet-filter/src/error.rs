//! [`FilterError`]: why an expression is no filter.

use panoptes_decoders::packet::program::BpfProgramError;

/// Why an expression is no filter. Each message has one line.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// libpcap cannot be loaded; `reason` is the dynamic linker's.
    #[error(
        "packet filters need libpcap, which cannot be loaded ({reason}): install the package \
         libpcap0.8"
    )]
    Load { reason: String },
    /// What was loaded as libpcap lacks a function.
    #[error(
        "packet filters need libpcap, but the installed one lacks {name}: install the package \
         libpcap0.8"
    )]
    Symbol { name: &'static str },
    /// The message is libpcap's.
    #[error("the filter {expression:?} is wrong: {message}")]
    Expression { expression: String, message: String },
    /// libpcap made a program that does not run.
    #[error("libpcap made a wrong program of the filter {expression:?}: {refusal}")]
    Program { expression: String, refusal: BpfProgramError },
}
