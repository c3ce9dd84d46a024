//! The form of all records of a service: that of Panoptes, or that of another product.
//!
//! Consumers of DOCA Argus expect its names and its types. In its dialect, every number and every
//! yes or no is a string, connections also have their ends under newer names, a reverse shell has
//! its shell and its peer where other records have theirs, and no time is written that is not
//! known. Nothing is left out but such times. The version stays that of Panoptes: a record says
//! who made it, and no consumer takes it for a release of the other product that it is not.

/// The form of records.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Dialect {
    /// That of Panoptes.
    #[default]
    Panoptes,
    /// That of DOCA Argus, as its consumers read it.
    DocaArgus,
}

impl Dialect {
    /// `vendor_name`
    pub const fn vendor_name(self) -> &'static str {
        match self {
            Self::Panoptes => "PANOPTES",
            Self::DocaArgus => "NVIDIA",
        }
    }

    /// `product_name`
    pub const fn product_name(self) -> &'static str {
        match self {
            Self::Panoptes => "PANOPTES",
            Self::DocaArgus => "DOCA_ARGUS",
        }
    }

    /// The dialect of a record, by its first value.
    pub(crate) fn of(record: &[u8]) -> Self {
        let first = record.strip_prefix(b"{\"vendor_name\":\"").unwrap_or_default();
        if first.starts_with(Self::DocaArgus.vendor_name().as_bytes()) {
            Self::DocaArgus
        } else {
            Self::Panoptes
        }
    }

    /// Whether this is the form of another product.
    #[inline]
    pub(crate) const fn is_foreign(self) -> bool {
        matches!(self, Self::DocaArgus)
    }
}
