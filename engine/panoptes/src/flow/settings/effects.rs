//! Changes of a request that take more than a line of the table.

use panoptes_engine::time::SECOND_NS;
use panoptes_flow::identity::FlowIdentity;

use crate::exit::Failure;
use crate::flow::request::{FlowRequest, SystemRequest};
use crate::flow::values::{mistake, number};

/// The longest timeout of flows in seconds: the largest number of 16 bits, less one.
const TIMEOUT_SECONDS_MAX: u64 = u16::MAX as u64 - 1;

/// The key of flows.
pub(super) fn set_flow_key(
    request: &mut FlowRequest,
    what: &str,
    text: &str,
) -> Result<(), Failure> {
    request.flows.identity = match &text.to_ascii_uppercase()[..] {
        "CLASSIC_5_TUPLE" => FlowIdentity::Conversation,
        "LAYER_3_MATRIX" => FlowIdentity::Layer3,
        "LAYER_2_MATRIX" => FlowIdentity::Layer2,
        _ => return Err(Failure::not_built(format!("{what}={text}"))),
    };
    Ok(())
}

/// The type of flows. Letters behind `uni` or `bi` do not matter, as for argus(8).
pub(super) fn set_flow_type(
    request: &mut FlowRequest,
    what: &str,
    text: &str,
) -> Result<(), Failure> {
    let text = text.to_ascii_lowercase();
    request.flows.is_unidirectional = text.starts_with("uni");
    if request.flows.is_unidirectional || text.starts_with("bi") {
        return Ok(());
    }
    Err(mistake(format!("{what} is `Bidirectional` or `Unidirectional`, not `{text}`")))
}

/// A timeout of flows, in seconds, of which there are at least `least`.
pub(super) fn set_timeout(
    timeout_ns: &mut i64,
    what: &str,
    text: &str,
    least: u64,
) -> Result<(), Failure> {
    *timeout_ns = number(what, text, least, TIMEOUT_SECONDS_MAX)? as i64 * SECOND_NS;
    Ok(())
}

/// The size of rings: a number and K, M or G, which are powers of 1000.
pub(super) fn set_ring_bytes(
    request: &mut FlowRequest,
    what: &str,
    text: &str,
) -> Result<(), Failure> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 1000),
        Some(b'M') => (&text[..text.len() - 1], 1_000_000),
        Some(b'G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let bytes = number(what, digits, 1, (4 << 30) / factor)? as usize * factor as usize;
    request.interfaces.ring_bytes = bytes;
    Ok(())
}

/// The system whose packets these are, which options describe.
pub(super) fn beside(request: &mut FlowRequest) -> &mut SystemRequest {
    request.beside.get_or_insert_default()
}
