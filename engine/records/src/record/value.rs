//! The kinds of value that a field can have: how each is written, and its schema.
//!
//! [`Scalar`] is one JSON value. [`DetailsValue`] is the type of a field: a scalar, an `Option` of
//! one (left out when it is `None`, never null), or a type that writes several keys. The `details!`
//! macro needs nothing else of a field's type.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::dialect::Dialect;
use crate::json::address::MacAddress;
use crate::json::command_line::{CommandLine, CommandText};
use crate::json::digits::HEX;
use crate::json::text::Text;
use crate::json::time::Timestamp;
use crate::json::{Full, JsonWriter};
use crate::schema_type::{SchemaObject, SchemaType};

use super::DetailsObject;

/// One JSON value.
pub trait Scalar {
    /// Writes `before`, which is a key, a comma or nothing, and the value.
    fn write(&self, before: &'static str, out: &mut JsonWriter<'_>) -> Result<(), Full>;

    fn schema() -> SchemaType;

    /// Whether records in this dialect have it.
    #[inline]
    fn is_known(&self, _dialect: Dialect) -> bool {
        true
    }
}

/// The type of a field in a details object.
pub trait DetailsValue {
    /// Appends key and value to the object being written. `key` is `,"name":`.
    fn append(&self, key: &'static str, out: &mut JsonWriter<'_>) -> Result<(), Full>;

    /// Adds its properties to the object's schema.
    fn describe(name: &'static str, object: &mut SchemaObject);
}

impl<T: Scalar> DetailsValue for T {
    #[expect(
        clippy::inline_always,
        reason = "the key's length is known only then: 5 % of a record"
    )]
    #[inline(always)]
    fn append(&self, key: &'static str, out: &mut JsonWriter<'_>) -> Result<(), Full> {
        if !self.is_known(out.dialect()) {
            return Ok(());
        }
        self.write(key, out)
    }

    fn describe(name: &'static str, object: &mut SchemaObject) {
        object.add(name, T::schema(), true);
    }
}

impl<T: DetailsValue> DetailsValue for Option<T> {
    #[inline]
    fn append(&self, key: &'static str, out: &mut JsonWriter<'_>) -> Result<(), Full> {
        match self {
            Some(value) => value.append(key, out),
            None => Ok(()),
        }
    }

    fn describe(name: &'static str, object: &mut SchemaObject) {
        let first = object.properties.len();
        T::describe(name, object);
        object.make_optional_from(first);
    }
}

impl DetailsValue for CommandLine<'_> {
    #[expect(clippy::inline_always, reason = "the key's length is known only then")]
    #[inline(always)]
    fn append(&self, key: &'static str, out: &mut JsonWriter<'_>) -> Result<(), Full> {
        // The list's key is the string's with `s` replaced; there is only one such pair.
        out.command_line(key, self, ",\"process_command_line_argument_list\":")
    }

    fn describe(name: &'static str, object: &mut SchemaObject) {
        object.add(name, SchemaType::Text, true);
        object.add("process_command_line_argument_list", SchemaType::list(SchemaType::Text), true);
    }
}

/// The fields of another object, written in line with this object's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flat<T>(pub T);

impl<T: DetailsObject> DetailsValue for Flat<T> {
    fn append(&self, _key: &'static str, out: &mut JsonWriter<'_>) -> Result<(), Full> {
        self.0.append_fields(out)
    }

    fn describe(_name: &'static str, object: &mut SchemaObject) {
        T::describe_fields(object);
    }
}

/// Objects in an object keyed "0", "1", … as the guide writes interfaces.
#[derive(Clone, Copy, Debug, Default)]
pub struct IndexedObjects<'a, T>(pub &'a [T]);

impl<T: DetailsObject> Scalar for IndexedObjects<'_, T> {
    fn write(&self, before: &'static str, out: &mut JsonWriter<'_>) -> Result<(), Full> {
        out.raw(before.as_bytes())?;
        let start = out.length();
        // The same rules as for a list (cut when too long), with keys and other brackets.
        out.list(self.0.iter().enumerate(), |out, (index, object)| {
            out.number(",\"", index as u64)?;
            out.raw(b"\":")?;
            out.object(|out| object.append_fields(out))
        })?;
        out.replace_brackets(start);
        Ok(())
    }

    fn schema() -> SchemaType {
        SchemaType::Numbered(Box::new(SchemaType::Object(T::schema_object())))
    }
}

/// A list of `{"<name>_details": {…}}`, as guide §11.8 writes lists.
#[derive(Clone, Copy, Debug, Default)]
pub struct WrappedObjects<'a, T> {
    items: &'a [T],
    is_cut: bool,
}

impl<'a, T> WrappedObjects<'a, T> {
    /// The complete list.
    pub const fn new(items: &'a [T]) -> Self {
        Self { items, is_cut: false }
    }

    /// If `is_cut`, `items` is only part of the list: the enclosing object will have `truncated`.
    pub const fn cut_if(items: &'a [T], is_cut: bool) -> Self {
        Self { items, is_cut }
    }
}

impl<T: DetailsObject> Scalar for WrappedObjects<'_, T> {
    fn write(&self, before: &'static str, out: &mut JsonWriter<'_>) -> Result<(), Full> {
        out.raw(before.as_bytes())?;
        if self.is_cut {
            out.set_truncated();
        }
        out.list(self.items, |out, object| {
            out.raw(b",{")?;
            out.raw(&T::KEY_FRAGMENT.as_bytes()[1..])?;
            out.object(|out| object.append_fields(out))?;
            out.raw(b"}")
        })
    }

    fn schema() -> SchemaType {
        SchemaType::list(SchemaType::Wrapped(
            T::KEY,
            Box::new(SchemaType::Object(T::schema_object())),
        ))
    }
}

/// Objects in a plain array.
#[derive(Clone, Copy, Debug, Default)]
pub struct Objects<'a, T> {
    items: &'a [T],
    is_cut: bool,
}

impl<'a, T> Objects<'a, T> {
    /// The complete list.
    pub const fn new(items: &'a [T]) -> Self {
        Self { items, is_cut: false }
    }

    /// If `is_cut`, `items` is only part of the list: the enclosing object will have `truncated`.
    pub const fn cut_if(items: &'a [T], is_cut: bool) -> Self {
        Self { items, is_cut }
    }
}

impl<T: DetailsObject> Scalar for Objects<'_, T> {
    fn write(&self, before: &'static str, out: &mut JsonWriter<'_>) -> Result<(), Full> {
        out.raw(before.as_bytes())?;
        if self.is_cut {
            out.set_truncated();
        }
        out.list(self.items, |out, object| {
            out.raw(b",")?;
            out.object(|out| object.append_fields(out))
        })
    }

    fn schema() -> SchemaType {
        SchemaType::list(SchemaType::Object(T::schema_object()))
    }
}

/// An array of scalars.
impl<T: Scalar> Scalar for &[T] {
    fn write(&self, before: &'static str, out: &mut JsonWriter<'_>) -> Result<(), Full> {
        out.raw(before.as_bytes())?;
        out.list(*self, |out, item| item.write(",", out))
    }

    fn schema() -> SchemaType {
        SchemaType::list(T::schema())
    }
}

macro_rules! scalars {
    ($($(#[$docs:meta])* $type:ty, $schema:expr,
        |$value:ident, $before:ident, $out:ident| $write:expr;)*) => {$(
        $(#[$docs])*
        impl Scalar for $type {
            #[inline(always)]
            fn write(&self, $before: &'static str, $out: &mut JsonWriter<'_>) -> Result<(), Full> {
                let $value = self;
                $write
            }

            fn schema() -> SchemaType {
                $schema
            }
        }
    )*};
}

scalars! {
    Text<'_>, SchemaType::Text, |value, before, out| out.text(before, value);
    CommandText<'_>, SchemaType::Text, |value, before, out| out.command(before, value);
    u16, SchemaType::up_to(u16::MAX.into()), |value, before, out| {
        out.integer(before, (*value).into())
    };
    u32, SchemaType::up_to(u32::MAX.into()), |value, before, out| {
        out.integer(before, (*value).into())
    };
    u64, SchemaType::Integer { maximum: None }, |value, before, out| out.integer(before, *value);
    bool, SchemaType::Boolean, |value, before, out| out.boolean(before, *value);
    IpAddr, SchemaType::Pattern(IP_PATTERN), |value, before, out| out.ip_address(before, *value);
    Ipv4Addr, SchemaType::Pattern(IPV4_PATTERN), |value, before, out| {
        out.ip_address(before, (*value).into())
    };
    Ipv6Addr, SchemaType::Pattern(IP_PATTERN), |value, before, out| {
        out.ip_address(before, (*value).into())
    };
    MacAddress, SchemaType::Pattern(MAC_PATTERN), |value, before, out| {
        out.mac_address(before, *value)
    };
    /// A fixed word; it must need no escapes.
    &'static str, SchemaType::Text, |value, before, out| out.word(before, value);
}

impl Scalar for Timestamp {
    #[expect(clippy::inline_always, reason = "the length of `before` is known only then")]
    #[inline(always)]
    fn write(&self, before: &'static str, out: &mut JsonWriter<'_>) -> Result<(), Full> {
        out.timestamp(before, *self)
    }

    fn schema() -> SchemaType {
        SchemaType::Time
    }

    #[inline]
    fn is_known(&self, dialect: Dialect) -> bool {
        !dialect.is_foreign() || self.is_set()
    }
}

const MAC_PATTERN: &str = "^([0-9a-f]{2}:){5}[0-9a-f]{2}$";
const IPV4_PATTERN: &str = r"^([0-9]{1,3}\.){3}[0-9]{1,3}$";
const IP_PATTERN: &str = r"^(([0-9]{1,3}\.){3}[0-9]{1,3}|[0-9a-f:]+)$";

/// A memory address: `"0x7f1c2a000000"`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MemoryAddress(pub u64);

/// A hash as lower-case hex.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hash<const BYTES: usize>(pub [u8; BYTES]);

impl<const BYTES: usize> Default for Hash<BYTES> {
    fn default() -> Self {
        Self([0; BYTES])
    }
}

impl<const BYTES: usize> Scalar for Hash<BYTES> {
    fn write(&self, before: &'static str, out: &mut JsonWriter<'_>) -> Result<(), Full> {
        out.hex_bytes(before, &self.0)
    }

    fn schema() -> SchemaType {
        SchemaType::Hex { digits: 2 * BYTES }
    }
}

/// Bytes as lower-case hex, of a length that differs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Hex<'a>(pub &'a [u8]);

/// A UUID of a boot or a pod.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Uuid(pub [u8; 16]);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; Self::TEXT_LENGTH];
        self.write_to(&mut text);
        f.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

impl Uuid {
    /// Bytes of the text.
    pub(crate) const TEXT_LENGTH: usize = 36;

    /// Writes the text, without quotes.
    #[inline]
    pub(crate) fn write_to(self, text: &mut [u8; Self::TEXT_LENGTH]) {
        const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
        *text = *b"00000000-0000-0000-0000-000000000000";
        for (byte, at) in self.0.iter().zip(PLACES) {
            text[at..at + 2].copy_from_slice(&HEX[usize::from(*byte)]);
        }
    }
}

/// A device as `major:minor`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DeviceNumber {
    pub major: u32,
    pub minor: u32,
}

/// Permission bits as four octal digits, setuid and sticky included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Permissions(pub u16);

/// The permissions of a memory area: `r-xp`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "four letters, each its own question")]
pub struct AreaPermissions {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
    /// Shared areas end in `s`, private ones in `p`.
    pub shared: bool,
}

/// A namespace as /proc links to it: `net:[4026531840]`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Namespace {
    kind: &'static str,
    inode: u64,
}

impl Namespace {
    /// `kind` is `net`, `pid`, `mnt`, …; `inode` is the namespace's inode number.
    pub const fn new(kind: &'static str, inode: u64) -> Self {
        Self { kind, inode }
    }
}

scalars! {
    MemoryAddress, SchemaType::Pattern("^0x[0-9a-f]{1,16}$"), |value, before, out| {
        out.hex_address(before, value.0)
    };
    Hex<'_>, SchemaType::Pattern("^([0-9a-f]{2})+$"), |value, before, out| {
        out.hex_bytes(before, value.0)
    };
    Uuid, SchemaType::Pattern(UUID_PATTERN), |value, before, out| {
        let [first, text @ .., last] = out.after::<{ Self::TEXT_LENGTH + 2 }>(before)?;
        (*first, *last) = (b'"', b'"');
        value.write_to(text);
        Ok(())
    };
    DeviceNumber, SchemaType::Pattern("^[0-9]+:[0-9]+$"), |value, before, out| {
        out.pair(before, value.major, value.minor)
    };
    Permissions, SchemaType::Pattern("^[0-7]{4}$"), |value, before, out| {
        let digit = |shift: u32| b'0' + (value.0 >> shift & 7) as u8;
        *out.after(before)? = [b'"', digit(9), digit(6), digit(3), digit(0), b'"'];
        Ok(())
    };
    AreaPermissions, SchemaType::Pattern("^[r-][w-][x-][ps]$"), |value, before, out| {
        let letter = |is_set: bool, letter| if is_set { letter } else { b'-' };
        let (read, write) = (letter(value.read, b'r'), letter(value.write, b'w'));
        let sharing = if value.shared { b's' } else { b'p' };
        *out.after(before)? = [b'"', read, write, letter(value.execute, b'x'), sharing, b'"'];
        Ok(())
    };
    Namespace, SchemaType::Pattern(r"^[a-z_]+:\[[0-9]+\]$"), |value, before, out| {
        // A part of it would be another value.
        out.numbered(before, value.kind, value.inode)
    };
}

const UUID_PATTERN: &str = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$";
