//! The types that the values of a JSON line have as columns of a file.

/// The type of a column.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ParquetColumnType {
    Number,
    Fraction,
    Flag,
    Text,
    /// Nanoseconds since 1970.
    Time,
    /// Texts.
    List,
}

/// A key, its type, and whether there is one for each end: `source_` and `destination_`.
pub(super) type ParquetColumnSpec = (&'static str, ParquetColumnType, bool);
