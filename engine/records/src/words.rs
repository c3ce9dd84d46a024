//! `words!`: a fixed set of words, declared once, with its serialiser and its schema.

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
            #[inline(always)]
            fn write(
                &self,
                before: &'static str,
                out: &mut $crate::json::JsonWriter<'_>,
            ) -> Result<(), $crate::json::Full> {
                out.word(before, self.word())
            }

            fn schema() -> $crate::schema_type::SchemaType {
                $crate::schema_type::SchemaType::Words(Self::WORDS)
            }
        }
    };
}

pub(crate) use words;
