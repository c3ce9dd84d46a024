//! `details!` and `words!`: a details object or a fixed set of words, declared once.
//!
//! The struct, the order of its keys, their names, the serialiser and the schema come from one
//! declaration, so none of them can drift from the others. A new field is one line in one file; a
//! new kind of value is one `Scalar` in `value.rs`.

/// Declares a details object: `pub struct Name<'a> "json_key" { field: Type, … }`, fields in the
/// order they are written. Behind `complete`, the fields are private and there is no default value:
/// the object's own constructor fills all of them.
macro_rules! details {
    ($(#[$docs:meta])* pub struct $name:ident $(<$life:lifetime>)? $key:literal complete {
        $($fields:tt)*
    }) => {
        details! { @declare fields $(#[$docs])* struct $name $(<$life>)? $key { $($fields)* } }
    };
    ($(#[$docs:meta])* pub struct $name:ident $(<$life:lifetime>)? $key:literal {
        $($fields:tt)*
    }) => {
        details! {
            @declare pub fields $(#[$docs])* #[derive(Default)]
            struct $name $(<$life>)? $key { $($fields)* }
        }
    };
    (@declare $visible:vis fields $(#[$docs:meta])*
    struct $name:ident $(<$life:lifetime>)? $key:literal {
        $($(#[doc = $meaning:literal])* $field:ident: $type:ty,)*
    }) => {
        $(#[$docs])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name $(<$life>)? {
            $($(#[doc = $meaning])* $visible $field: $type,)*
        }

        impl $(<$life>)? $crate::record::DetailsObject for $name $(<$life>)? {
            const KEY: &'static str = $key;
            const KEY_FRAGMENT: &'static str = concat!(",\"", $key, "\":");

            #[inline]
            fn append_fields(
                &self,
                out: &mut $crate::json::JsonWriter<'_>,
            ) -> Result<(), $crate::json::Full> {
                $($crate::record::value::Value::append(
                    &self.$field,
                    concat!(",\"", stringify!($field), "\":"),
                    out,
                )?;)*
                Ok(())
            }

            fn describe_fields(object: &mut $crate::schema::Object) {
                $(
                    let first = object.properties.len();
                    <$type as $crate::record::value::Value>::describe(stringify!($field), object);
                    object.explain_from(first, concat!($($meaning),*));
                )*
            }
        }
    };
}

/// Declares an enumeration whose variants are written as fixed words. The first one is the default.
macro_rules! words {
    ($(#[$docs:meta])* pub enum $name:ident {
        $(#[$first_docs:meta])* $first:ident = $first_word:literal
        $(, $(#[$more:meta])* $variant:ident = $word:literal)* $(,)?
    }) => {
        $(#[$docs])*
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum $name {
            #[doc = concat!("`", $first_word, "`")]
            $(#[$first_docs])*
            #[default]
            $first,
            $(#[doc = concat!("`", $word, "`")] $(#[$more])* $variant,)*
        }

        impl $name {
            pub const ALL: &'static [Self] = &[Self::$first, $(Self::$variant,)*];
            /// Every word, in the order of declaration.
            pub const WORDS: &'static [&'static str] = &[$first_word, $($word,)*];

            pub const fn word(self) -> &'static str {
                Self::WORDS[self as usize]
            }
        }

        impl $crate::record::value::Scalar for $name {
            #[inline]
            fn write(
                &self,
                out: &mut $crate::json::JsonWriter<'_>,
            ) -> Result<(), $crate::json::Full> {
                out.word(self.word())
            }

            fn schema() -> $crate::schema::Type {
                $crate::schema::Type::Words(Self::WORDS)
            }
        }
    };
}

pub(crate) use {details, words};
