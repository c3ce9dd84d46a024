//! Application protocols: vectors of RFCs, data recorded here, and hostile data.

mod dns;
mod hostile;
mod http;
mod ja4;
mod properties;
mod quic;
mod recorded;
mod ssh;
mod tls;
mod tshark;
