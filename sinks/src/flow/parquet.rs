//! Flow records as a Parquet file, for programs of data science.
//!
//! The columns are the keys of the JSON line (`docs/flow-record.md`). The values are taken from it,
//! so that both forms have the same facts. Each column may be null. Times are nanoseconds since
//! 1970 in UTC. Records gather in buffers that are made at the start. A full row group is written
//! at once. Readers need the end of the file: a file that was cut has no records.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;

use self::columns::{columns, names};
use self::line::{JsonLineValue, fields};
use crate::flow::column_type::ParquetColumnType;
use crate::flow::output::{BlockingOutput, each_record};
use crate::output::folder::FILE_MODE;

mod columns;
mod line;

/// Records of a row group.
const ROWS_MAX: usize = 16_384;
/// Bytes of the texts of a row group; behind them, it is written early.
const TEXT_BYTES_MAX: usize = 32 << 20;

/// A Parquet file that is being written.
pub struct ParquetFile {
    writer: Option<SerializedFileWriter<File>>,
    columns: Vec<Column>,
    rows: usize,
    text_bytes: usize,
    /// Why a row group could not be written. No other one can follow it in the file.
    failure: Option<String>,
    /// Records that were added, and are in no row group.
    lost: u64,
}

/// The values of a column in this row group.
struct Column {
    name: Box<str>,
    kind: ParquetColumnType,
    /// For each value: 1 if it is there, and of lists 2. For each null, 0.
    levels: Vec<i16>,
    /// The repetition levels of lists: 0 for the first value of a record, 1 for others.
    repetitions: Vec<i16>,
    numbers: Vec<i64>,
    fractions: Vec<f64>,
    flags: Vec<bool>,
    texts: Vec<u8>,
    /// Where each text ends.
    ends: Vec<usize>,
    /// The number of the last record that has a value.
    last_row: usize,
}

impl ParquetFile {
    /// Makes a file. One that exists cannot be continued, and is an error.
    ///
    /// # Errors
    ///
    /// The file cannot be made or written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        Self::of(options.write(true).create_new(true).mode(FILE_MODE).open(path)?)
    }

    fn of(file: File) -> io::Result<Self> {
        let properties = Arc::new(WriterProperties::builder().build());
        let schema = schema().map_err(failed)?;
        let writer = SerializedFileWriter::new(file, schema, properties).map_err(failed)?;
        let columns =
            columns().flat_map(|column| names(column).map(move |name| Column::new(name, column.1)));
        let columns = columns.collect();
        Ok(Self { writer: Some(writer), columns, rows: 0, text_bytes: 0, failure: None, lost: 0 })
    }

    /// Adds a record: its JSON line, as [`JsonLineFormat`](super::json::JsonLineFormat) writes it.
    ///
    /// # Errors
    ///
    /// A row group cannot be written. Its records are lost.
    pub fn push(&mut self, line: &[u8]) -> io::Result<()> {
        let row = self.rows + 1;
        let mut next = 0;
        fields(line, |name, value| {
            // The keys come in the order of the columns, with few exceptions.
            let columns = &mut self.columns;
            let place = (next..columns.len()).chain(0..next).find(|at| columns[*at].is(name));
            if let Some(at) = place {
                self.text_bytes += columns[at].add(row, value);
                next = at;
            }
        });
        for column in self.columns.iter_mut().filter(|column| column.last_row != row) {
            column.add_null(row);
        }
        self.rows = row;
        if self.rows >= ROWS_MAX || self.text_bytes >= TEXT_BYTES_MAX {
            return self.write_rows();
        }
        Ok(())
    }

    /// Writes what is left, and the end of the file.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn finish(&mut self) -> io::Result<()> {
        if self.rows > 0 {
            self.write_rows()?;
        }
        self.check()?;
        match self.writer.take() {
            Some(writer) => writer.close().map(drop).map_err(failed),
            None => Ok(()),
        }
    }

    /// The failure of an earlier row group.
    fn check(&self) -> io::Result<()> {
        self.failure.as_ref().map_or(Ok(()), |failure| Err(io::Error::other(failure.clone())))
    }

    fn write_rows(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        self.text_bytes = 0;
        let result = match (&self.failure, &mut self.writer) {
            (None, Some(writer)) => write_group(writer, &mut self.columns).map_err(failed),
            _ => Ok(()),
        };
        self.columns.iter_mut().for_each(Column::clear);
        if let Err(error) = result {
            self.failure = Some(error.to_string());
        }
        let result = self.check();
        if result.is_err() {
            self.lost += rows as u64;
        }
        result
    }
}

impl BlockingOutput for ParquetFile {
    /// Counts the records that are lost; [`flush`](Self::flush) returns the failure.
    fn write(&mut self, records: &[u8], ends: &[u32]) -> io::Result<()> {
        each_record(records, ends).for_each(|line| drop(self.push(line)));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.check()
    }

    fn lost(&self) -> u64 {
        self.lost
    }

    fn is_idle(&mut self) -> bool {
        self.rows == 0
    }

    fn look(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        Self::finish(self)
    }
}

impl std::fmt::Debug for ParquetFile {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ParquetFile").field("rows", &self.rows).finish_non_exhaustive()
    }
}

fn failed(error: ParquetError) -> io::Error {
    io::Error::other(error)
}

fn write_group(
    writer: &mut SerializedFileWriter<File>,
    columns: &mut [Column],
) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    for column in columns {
        if let Some(mut to) = group.next_column()? {
            column.write(&mut to)?;
            to.close()?;
        }
    }
    group.close().map(drop)
}

/// The root, with a field for each column.
fn schema() -> Result<Arc<Type>, ParquetError> {
    let mut fields = Vec::new();
    for column in columns() {
        for name in names(column) {
            fields.push(Arc::new(field(&name, column.1)?));
        }
    }
    Type::group_type_builder("flow").with_fields(fields).build().map(Arc::new)
}

fn field(name: &str, kind: ParquetColumnType) -> Result<Type, ParquetError> {
    let of = |name: &str, physical, logical, repetition| {
        Type::primitive_type_builder(name, physical)
            .with_logical_type(logical)
            .with_repetition(repetition)
            .build()
    };
    let optional = Repetition::OPTIONAL;
    match kind {
        ParquetColumnType::Number => of(name, Physical::INT64, None, optional),
        ParquetColumnType::Time => {
            let unit = LogicalType::timestamp(true, TimeUnit::NANOS);
            of(name, Physical::INT64, Some(unit), optional)
        }
        ParquetColumnType::Fraction => of(name, Physical::DOUBLE, None, optional),
        ParquetColumnType::Flag => of(name, Physical::BOOLEAN, None, optional),
        ParquetColumnType::Text => {
            of(name, Physical::BYTE_ARRAY, Some(LogicalType::String), optional)
        }
        ParquetColumnType::List => {
            let text = Some(LogicalType::String);
            let element = of("element", Physical::BYTE_ARRAY, text, Repetition::REQUIRED)?;
            let list = Type::group_type_builder("list")
                .with_fields(vec![Arc::new(element)])
                .with_repetition(Repetition::REPEATED)
                .build()?;
            Type::group_type_builder(name)
                .with_fields(vec![Arc::new(list)])
                .with_logical_type(Some(LogicalType::List))
                .with_repetition(optional)
                .build()
        }
    }
}

impl Column {
    fn new(name: String, kind: ParquetColumnType) -> Self {
        let of = |is_it: bool| if is_it { ROWS_MAX } else { 0 };
        let is_text = matches!(kind, ParquetColumnType::Text | ParquetColumnType::List);
        Self {
            name: name.into_boxed_str(),
            kind,
            levels: Vec::with_capacity(ROWS_MAX),
            repetitions: Vec::with_capacity(of(kind == ParquetColumnType::List)),
            numbers: Vec::with_capacity(of(matches!(
                kind,
                ParquetColumnType::Number | ParquetColumnType::Time
            ))),
            fractions: Vec::with_capacity(of(kind == ParquetColumnType::Fraction)),
            flags: Vec::with_capacity(of(kind == ParquetColumnType::Flag)),
            texts: Vec::with_capacity(16 * of(is_text)),
            ends: Vec::with_capacity(of(is_text)),
            last_row: 0,
        }
    }

    fn is(&self, name: &[u8]) -> bool {
        self.name.as_bytes() == name
    }

    fn clear(&mut self) {
        self.levels.clear();
        self.repetitions.clear();
        self.numbers.clear();
        self.fractions.clear();
        self.flags.clear();
        self.texts.clear();
        self.ends.clear();
        self.last_row = 0;
    }

    fn add_null(&mut self, row: usize) {
        self.levels.push(0);
        if self.kind == ParquetColumnType::List {
            self.repetitions.push(0);
        }
        self.last_row = row;
    }

    /// Adds a value; only lists have several in a record. Returns the bytes of its text.
    fn add(&mut self, row: usize, value: JsonLineValue<'_>) -> usize {
        let is_more = self.last_row == row;
        if is_more && self.kind != ParquetColumnType::List {
            return 0;
        }
        let before = self.texts.len();
        match self.kind {
            ParquetColumnType::Number => self.numbers.push(value.number()),
            ParquetColumnType::Time => self.numbers.push(value.time_ns()),
            ParquetColumnType::Fraction => self.fractions.push(value.fraction()),
            ParquetColumnType::Flag => self.flags.push(value.is_true()),
            ParquetColumnType::Text | ParquetColumnType::List => {
                value.text(&mut self.texts);
                self.ends.push(self.texts.len());
            }
        }
        self.levels.push(if self.kind == ParquetColumnType::List { 2 } else { 1 });
        if self.kind == ParquetColumnType::List {
            self.repetitions.push(i16::from(is_more));
        }
        self.last_row = row;
        self.texts.len() - before
    }

    fn write(&mut self, to: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let levels = Some(&self.levels[..]);
        match self.kind {
            ParquetColumnType::Number | ParquetColumnType::Time => {
                to.typed::<Int64Type>().write_batch(&self.numbers, levels, None)?
            }
            ParquetColumnType::Fraction => {
                to.typed::<DoubleType>().write_batch(&self.fractions, levels, None)?
            }
            ParquetColumnType::Flag => {
                to.typed::<BoolType>().write_batch(&self.flags, levels, None)?
            }
            ParquetColumnType::Text | ParquetColumnType::List => {
                let all = ByteArray::from(&self.texts[..]);
                let mut begin = 0;
                let values = self.ends.iter().map(|end| {
                    let value = all.slice(begin, end - begin);
                    begin = *end;
                    value
                });
                let values: Vec<_> = values.collect();
                let is_list = self.kind == ParquetColumnType::List;
                let repetitions = is_list.then_some(&self.repetitions[..]);
                to.typed::<ByteArrayType>().write_batch(&values, levels, repetitions)?
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Behind a row group that was not written, nothing can be, so nothing counts as written.
    #[test]
    fn a_file_that_has_failed_loses_and_counts_all_records() {
        let full = File::options().write(true).open("/dev/full").expect("the device");
        let mut file = ParquetFile::of(full).expect("nothing is written yet");
        let line = format!("{{\"kind\":\"flow\",\"source_address\":\"{}\"}}\n", "a".repeat(200));
        let count = 3 * ROWS_MAX as u64;
        for _ in 0..count {
            file.write(line.as_bytes(), &[line.len() as u32]).expect("it is counted");
        }
        assert_eq!(BlockingOutput::lost(&file), count);
        assert!(file.flush().is_err() && ParquetFile::finish(&mut file).is_err());
    }
}
