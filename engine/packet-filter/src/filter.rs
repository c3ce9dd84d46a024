//! [`PacketFilter`]: a compiled expression.

use panoptes_decoders::packet::program::{BpfProgram, BpfProgramError, Instruction, code};

use crate::dump;
use crate::error::FilterError;
use crate::library::Library;
use crate::options::{FilterOptions, SNAP_LENGTH_MAX};

/// A filter of packets.
#[derive(Clone, Debug)]
pub struct PacketFilter {
    program: BpfProgram<Box<[Instruction]>>,
}

impl PacketFilter {
    /// Compiles an expression. If it is empty, all packets match.
    ///
    /// Expressions with names of hosts ask the resolver, which may take seconds.
    pub fn compile(expression: &str, options: &FilterOptions) -> Result<Self, FilterError> {
        let snap_length = match options.snap_length {
            0 => SNAP_LENGTH_MAX,
            length => length.min(i32::MAX as u32),
        };
        let instructions = if expression.trim().is_empty() {
            Box::new([Instruction {
                code: code::RET_K,
                constant: snap_length,
                ..Default::default()
            }])
        } else {
            let options = FilterOptions { snap_length, ..*options };
            Library::get()?.compile(expression, &options)?
        };
        Self::from_instructions(instructions).map_err(|refusal| {
            let expression = expression.to_owned();
            FilterError::Program { expression, refusal }
        })
    }

    /// A filter that was compiled elsewhere, for example by `tcpdump -ddd`.
    pub fn from_instructions(instructions: Box<[Instruction]>) -> Result<Self, BpfProgramError> {
        Ok(Self { program: BpfProgram::new(instructions)? })
    }

    /// Whether the filter keeps a packet. `wire_length` is the packet's length in bytes before the
    /// capture cut it.
    #[inline]
    pub fn matches(&self, bytes: &[u8], wire_length: u32) -> bool {
        self.program.run(bytes, wire_length) != 0
    }

    /// The program, for `SO_ATTACH_FILTER`.
    ///
    /// A kernel refuses it if it has more than 4096 instructions or jumps back (`protochain`). The
    /// kernel keeps the outer VLAN tag beside the packet, so expressions with `vlan` match there
    /// only what has two tags.
    pub fn instructions(&self) -> &[Instruction] {
        self.program.instructions()
    }

    /// The program as a text, one instruction a line, as `tcpdump -d` and `argus -b` print it.
    pub fn dump(&self) -> String {
        dump::text(self.program.instructions())
    }
}
