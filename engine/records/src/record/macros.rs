//! `details!`: a details object, declared once.
//!
//! The struct, the order of its keys, their names, the serialiser and the schema come from one
//! declaration, so none of them can drift from the others. A new field is one line in one file; a
//! new kind of value is one `Scalar` in `value.rs`.

/// Declares a details object: `pub struct Name<'a> "json_key" { field: Type, … }`, fields in the
/// order they are written. In the dialect of another product, a field declared with `as other` is
/// written once more, under that name. Behind `complete`, the fields are private and there is no
/// default value: the object's own constructor fills all of them.
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
        $($(#[doc = $meaning:literal])* $field:ident $(as $alias:ident)?: $type:ty,)*
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
                $(
                    $crate::record::value::DetailsValue::append(
                        &self.$field,
                        concat!(",\"", stringify!($field), "\":"),
                        out,
                    )?;
                    $(if out.dialect().is_foreign() {
                        $crate::record::value::DetailsValue::append(
                            &self.$field,
                            concat!(",\"", stringify!($alias), "\":"),
                            out,
                        )?;
                    })?
                )*
                Ok(())
            }

            fn describe_fields(object: &mut $crate::schema_type::SchemaObject) {
                $(
                    let first = object.properties.len();
                    <$type as $crate::record::value::DetailsValue>::describe(
                        stringify!($field),
                        object,
                    );
                    object.explain_from(first, concat!($($meaning),*));
                    $(object.alias_last(stringify!($alias));)?
                )*
            }
        }
    };
}

pub(crate) use details;
