//! Applications of flows: vectors of RFCs, recorded hellos in pieces of any order, and limits.

mod dns;
mod dtls;
mod feints;
mod passive_dns;
#[path = "../../../../decoders/tests/application/properties.rs"]
mod properties;
mod quic;
#[path = "../../../../decoders/tests/application/recorded.rs"]
mod recorded;
mod starts;
mod streams;
mod table;
mod wire;
