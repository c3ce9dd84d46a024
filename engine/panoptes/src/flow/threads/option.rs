//! `--threads`: how many, and what cannot be divided.

use panoptes_flow::identity::FlowIdentity;

use crate::config::FLOW_THREADS_MAX;
use crate::exit::Failure;
use crate::flow::devices::{Means, NamedInterface};
use crate::flow::request::FlowRequest;
use crate::flow::values::{mistake, number};

/// Takes the option's value.
pub(in crate::flow) fn set(
    request: &mut FlowRequest,
    option: &str,
    value: &str,
) -> Result<(), Failure> {
    request.interfaces.threads = number(option, value, 1, FLOW_THREADS_MAX.into())? as usize;
    Ok(())
}

/// Checks that threads can divide what is asked for.
pub(in crate::flow) fn check(request: &FlowRequest) -> Result<(), Failure> {
    if request.interfaces.threads <= 1 {
        return Ok(());
    }
    if request.reads_captures() {
        return Err(mistake("--threads is for interfaces: it cannot divide captures"));
    }
    if request.input.packets != (1, u64::MAX) {
        return Err(mistake("--threads: -N needs one thread, which counts all packets"));
    }
    if request.is_endpoint {
        return Err(mistake("--threads: --endpoint needs one thread, for its little memory"));
    }
    if request.flows.identity == FlowIdentity::Layer2 {
        return Err(mistake(
            "--threads divides packets by IP addresses: flows of hardware addresses need one",
        ));
    }
    let mut all = request.interfaces.streams.iter().flat_map(|stream| &stream.interfaces);
    all.try_for_each(check_interface)
}

fn check_interface(named: &NamedInterface) -> Result<(), Failure> {
    let name = &named.name;
    match named.means {
        Means::Xdp => Err(mistake(format!(
            "--threads: `xdp:{name}` needs one thread; without `xdp:` the kernel divides packets"
        ))),
        Means::Datagrams(_, address) if address.ip().is_multicast() => Err(mistake(format!(
            "--threads: datagrams to a group come to all threads, so `{name}` needs one thread"
        ))),
        _ => Ok(()),
    }
}
