//! Writes small BTF, type by type, like pahole for a kernel.

/// `BTF_KIND_*` (include/uapi/linux/btf.h).
pub(crate) mod kind {
    pub(crate) const INT: u32 = 1;
    pub(crate) const PTR: u32 = 2;
    pub(crate) const ARRAY: u32 = 3;
    pub(crate) const STRUCT: u32 = 4;
    pub(crate) const UNION: u32 = 5;
    pub(crate) const ENUM: u32 = 6;
    pub(crate) const TYPEDEF: u32 = 8;
    pub(crate) const VOLATILE: u32 = 9;
    pub(crate) const CONST: u32 = 10;
    pub(crate) const TYPE_TAG: u32 = 18;
    pub(crate) const ENUM64: u32 = 19;
}

/// Builds BTF type by type; ids count from 1.
#[derive(Default)]
pub(crate) struct Writer {
    types: Vec<u8>,
    names: Vec<u8>,
    count: u32,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self { names: vec![0], ..Self::default() }
    }

    pub(crate) fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.names.len() as u32;
        self.names.extend(name.as_bytes());
        self.names.push(0);
        at
    }

    pub(crate) fn add(&mut self, name: &str, info: u32, value: u32, body: &[u32]) -> u32 {
        let name = self.name(name);
        for word in [name, info, value].iter().chain(body) {
            self.types.extend(word.to_le_bytes());
        }
        self.count += 1;
        self.count
    }

    pub(crate) fn int(&mut self, name: &str, bytes: u32) -> u32 {
        self.add(name, kind::INT << 24, bytes, &[bytes * 8])
    }

    pub(crate) fn pointer(&mut self, to: u32) -> u32 {
        self.add("", kind::PTR << 24, to, &[])
    }

    pub(crate) fn modifier(&mut self, kind: u32, name: &str, to: u32) -> u32 {
        self.add(name, kind << 24, to, &[])
    }

    pub(crate) fn array(&mut self, of: u32, count: u32) -> u32 {
        self.add("", kind::ARRAY << 24, 0, &[of, of, count])
    }

    /// Members are (name, type, position as encoded).
    pub(crate) fn structure(
        &mut self,
        kind: u32,
        flag: bool,
        name: &str,
        bytes: u32,
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let body: Vec<u32> = members
            .iter()
            .flat_map(|&(name, id, position)| [self.name(name), id, position])
            .collect();
        let info = u32::from(flag) << 31 | kind << 24 | members.len() as u32;
        self.add(name, info, bytes, &body)
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        encode(&self.types, &self.names)
    }

    /// The number of bytes of types and of names so far.
    pub(crate) fn position(&self) -> (usize, usize) {
        (self.types.len(), self.names.len())
    }

    /// The BTF of a kernel, and the BTF of its module, which begins at `position`.
    pub(crate) fn finish_module(self, position: (usize, usize)) -> (Vec<u8>, Vec<u8>) {
        let (kernel_types, module_types) = self.types.split_at(position.0);
        let (kernel_names, module_names) = self.names.split_at(position.1);
        (encode(kernel_types, kernel_names), encode(module_types, module_names))
    }
}

fn encode(types: &[u8], names: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    let length = types.len() as u32;
    for word in [24, 0, length, length, names.len() as u32] {
        bytes.extend(u32::to_le_bytes(word));
    }
    bytes.extend(types);
    bytes.extend(names);
    bytes
}
