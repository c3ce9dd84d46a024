"""Makes the symbol file that Volatility 3 needs (ISF) from a vmlinux with DWARF, by drgn.

    isf.py CORE VMLINUX OUT.json.xz

All types that the kernel's BTF names are written, and what they and the variables reach. CORE is
used for the kernel's banner alone. dwarf2json makes such files too, but no registry of packages
has it.
"""

import base64
import collections
import json
import lzma
import struct
import sys

import drgn
from drgn import PrimitiveType, TypeKind

# The types' keywords of the two formats.
KINDS = {TypeKind.STRUCT: "struct", TypeKind.UNION: "union", TypeKind.CLASS: "class"}
SHN_UNDEF, STT_OBJECT, STT_SECTION, STT_FILE = 0, 1, 3, 4
SHT_SYMTAB = 2
BTF_STRUCT, BTF_UNION = 4, 5
# The bytes that follow the 12 of a type in BTF, by its kind: fixed, and for each of its members.
BTF_MORE = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0)}
BTF_MORE |= {15: (0, 12), 17: (4, 0), 19: (0, 12)}


class Types:
    """The types that were met, by their names; those without a name get one."""

    def __init__(self):
        self.base = {
            "pointer": dict(size=8, signed=False, kind="int", endian="little"),
            "void": dict(size=0, signed=False, kind="void", endian="little"),
        }
        self.users, self.enums = {}, {}
        self.unnamed = {}
        self.waiting = collections.deque()

    def describe(self, type_):
        """How a field or a symbol names its type; the type itself is written later."""
        while type_.kind == TypeKind.TYPEDEF:
            type_ = type_.type
        if type_.kind == TypeKind.POINTER:
            return {"kind": "pointer", "subtype": self.describe(type_.type)}
        if type_.kind == TypeKind.ARRAY:
            subtype = self.describe(type_.type)
            return {"kind": "array", "count": type_.length or 0, "subtype": subtype}
        if type_.kind == TypeKind.FUNCTION:
            return {"kind": "function"}
        if type_.kind == TypeKind.VOID:
            return {"kind": "base", "name": "void"}
        if type_.kind == TypeKind.ENUM:
            return {"kind": "enum", "name": self.meet(type_)}
        if type_.kind in KINDS:
            return {"kind": KINDS[type_.kind], "name": self.meet(type_)}
        return {"kind": "base", "name": self.meet_base(type_)}

    def meet(self, type_):
        name = type_.tag
        if name is None:
            # The definition's text tells types without a name apart.
            name = self.unnamed.setdefault(str(type_), f"unnamed_{len(self.unnamed)}")
        known = self.enums if type_.kind == TypeKind.ENUM else self.users
        if name not in known and type_.is_complete():
            known[name] = None
            self.waiting.append((name, type_))
        return name

    def meet_base(self, type_):
        kind = {TypeKind.BOOL: "bool", TypeKind.FLOAT: "float"}.get(type_.kind, "int")
        if type_.primitive in (PrimitiveType.C_CHAR, PrimitiveType.C_UNSIGNED_CHAR):
            kind = "char"
        signed = type_.kind == TypeKind.INT and type_.is_signed
        self.base.setdefault(
            type_.name, dict(size=type_.size, signed=signed, kind=kind, endian="little")
        )
        return type_.name

    def write_waiting(self):
        while self.waiting:
            name, type_ = self.waiting.popleft()
            if type_.kind == TypeKind.ENUM:
                self.enums[name] = self.enumeration(type_)
            else:
                fields = self.fields(type_)
                self.users[name] = dict(size=type_.size, kind=KINDS[type_.kind], fields=fields)

    def enumeration(self, type_):
        constants = {each.name: each.value for each in type_.enumerators}
        return dict(size=drgn.sizeof(type_), base=self.meet_base(type_.type), constants=constants)

    def fields(self, type_):
        fields = {}
        for index, member in enumerate(type_.members):
            offset, bit = divmod(member.bit_offset, 8)
            described = self.describe(member.type)
            if member.bit_field_size is not None:
                # The unit of a bit field starts at a multiple of its size.
                unit = drgn.sizeof(member.type) * 8
                start = member.bit_offset // unit * unit
                offset, bit = start // 8, member.bit_offset - start
                described = dict(
                    kind="bitfield",
                    bit_position=bit,
                    bit_length=member.bit_field_size,
                    type=described,
                )
            field = dict(offset=offset, type=described)
            if member.name is None:
                field["anonymous"] = True
            fields[member.name or f"unnamed_field_{index}"] = field
        return fields


class Vmlinux:
    """The sections of an ELF file that drgn does not list."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.image = file.read()
        (table,) = struct.unpack_from("<Q", self.image, 40)
        size, count, names = struct.unpack_from("<HHH", self.image, 58)
        self.headers = [
            struct.unpack_from("<IIQQQQIIQQ", self.image, table + size * index)
            for index in range(count)
        ]
        self.names = self.headers[names][4]

    def text(self, at):
        return self.image[at : self.image.index(b"\0", at)].decode()

    def symbols(self):
        """Names, addresses and kinds of the symbols."""
        (table,) = [header for header in self.headers if header[1] == SHT_SYMTAB]
        strings = self.headers[table[6]][4]
        for at in range(table[4], table[4] + table[5], 24):
            name, info, _, section, value, _ = struct.unpack_from("<IBBHQQ", self.image, at)
            if name and section != SHN_UNDEF and info & 15 not in (STT_SECTION, STT_FILE):
                yield self.text(strings + name), value, info & 15

    def structures(self):
        """The names of all structures and unions, as `struct NAME`, by the BTF."""
        (section,) = [each for each in self.headers if self.text(self.names + each[0]) == ".BTF"]
        start = section[4]
        length, types, size, strings = struct.unpack_from("<IIII", self.image, start + 4)
        at, end = start + length + types, start + length + types + size
        while at < end:
            name, info, _ = struct.unpack_from("<III", self.image, at)
            kind = info >> 24 & 31
            if name and kind in (BTF_STRUCT, BTF_UNION):
                keyword = "struct" if kind == BTF_STRUCT else "union"
                yield f"{keyword} {self.text(start + length + strings + name)}"
            fixed, each = BTF_MORE.get(kind, (0, 0))
            at += 12 + fixed + each * (info & 0xFFFF)


def main():
    core, vmlinux, out = sys.argv[1:]
    prog = drgn.Program()
    prog.set_core_dump(core)
    prog.load_debug_info([vmlinux])
    types, symbols = Types(), {}
    image = Vmlinux(vmlinux)
    for name, address, kind in image.symbols():
        symbols.setdefault(name, {"address": address})
        if kind == STT_OBJECT:
            try:
                symbols[name]["type"] = types.describe(prog[name].type_)
            except (LookupError, drgn.BadDataError):
                pass
    for name in image.structures():
        try:
            types.describe(prog.type(name))
        except LookupError:
            pass
    types.write_waiting()
    banner = prog["linux_banner"].string_() + b"\0"
    symbols["linux_banner"]["constant_data"] = base64.b64encode(banner).decode()
    isf = dict(
        metadata=dict(format="6.2.0", producer=dict(name="panoptes-peers", version="1.0.0")),
        base_types=types.base,
        user_types=types.users,
        enums=types.enums,
        symbols=symbols,
    )
    with lzma.open(out, "wt", preset=1) as file:
        json.dump(isf, file)
    print(len(types.users), "types,", len(types.enums), "enumerations,", len(symbols), "symbols")


main()
