//! Tests of whole captures.
