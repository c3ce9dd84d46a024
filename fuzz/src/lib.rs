//! Shared by the fuzz targets: the macro that makes a program of one.
//!
//! With the compiler options of `.cargo/config.toml` here the program is libFuzzer's. Without them
//! it is the driver in [`plain`]: `cargo xtask test` then compiles only the targets themselves,
//! because their dependencies are those of the tests.

pub mod plain;

#[cfg(fuzzing)]
pub use libfuzzer_sys::fuzz_target;

/// Makes a program of a target: `fuzz_target!(|data: &[u8]| { … })`.
#[cfg(not(fuzzing))]
#[macro_export]
macro_rules! fuzz_target {
    (|$data:ident: &[u8]| $body:expr) => {
        fn main() -> std::process::ExitCode {
            $crate::plain::main(|$data: &[u8]| $body)
        }
    };
}
