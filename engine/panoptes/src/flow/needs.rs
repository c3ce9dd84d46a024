//! What the sensor needs of this machine, for `panoptes doctor`. Nothing is opened.

use std::path::{Path, PathBuf};

use super::devices::Means;
use super::filter::PacketFilters;
use super::request::{FlowRequest, Target};
use super::{configuration, interfaces};

/// What a configuration asks for.
#[derive(Clone, Debug)]
pub(crate) struct Needs {
    /// Names of interfaces, and whether each is received by XDP; or why there is none.
    pub(crate) interfaces: Result<Vec<(String, bool)>, String>,
    /// Whether the filter of packets can be compiled; `None` without one.
    pub(crate) filter: Option<Result<(), String>>,
    /// Files that records go to.
    pub(crate) files: Vec<PathBuf>,
    /// Bytes of the ring of each interface.
    pub(crate) ring_bytes: usize,
    /// Variables that have no effect.
    pub(crate) warnings: Vec<String>,
}

impl Needs {
    /// Reads an `argus.conf`.
    ///
    /// # Errors
    ///
    /// The last mistake in it. The others are on standard error.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let mut request = FlowRequest::default();
        let path = path.to_str().ok_or("the name of the file is no text")?;
        configuration::read(path, &mut request).map_err(|failure| failure.message)?;
        let interfaces = interfaces::streams(&request).map_err(|failure| failure.message);
        let interfaces = interfaces.map(|streams| {
            let all = streams.into_iter().flat_map(|stream| stream.interfaces);
            let interfaces = all.filter(|named| !matches!(named.means, Means::Datagrams(..)));
            interfaces.map(|named| (named.name, named.means == Means::Xdp)).collect()
        });
        let compile = |request: &FlowRequest| PacketFilters::new(request).check();
        let filter = request.input.filter.is_some().then(|| compile(&request));
        let files = request.outputs.into_iter().filter_map(|output| match output.to {
            Target::File(path) | Target::Parquet(path) => Some(path),
            Target::StandardOutput | Target::Datagrams(_) | Target::Ipfix(_) => None,
        });
        Ok(Self {
            interfaces,
            filter: filter.map(|result| result.map_err(|failure| failure.message)),
            files: files.collect(),
            ring_bytes: request.interfaces.ring_bytes,
            warnings: request.warnings,
        })
    }
}
