//! Converts the profiles in `tables/` to constant tables: one list of names for all kernels, and
//! for each kernel its numbers in the same order. `src/builtin.rs` reads them.

#[path = "src/table_marks.rs"]
mod table_marks;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::Value;

use table_marks::{ABSENT, UNASKED};

struct ProfileJson {
    path: PathBuf,
    content: Value,
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=tables");
    let profiles = read(Path::new("tables"));
    let mut symbols = BTreeSet::new();
    let mut members = BTreeSet::new();
    for profile in &profiles {
        symbols.extend(profile.symbols().map(|(name, _)| name));
        members.extend(profile.members().map(|(structure, path, _)| (structure, path)));
    }
    let mut code = String::new();
    let _ = writeln!(code, "pub(super) static SYMBOLS: &[&str] = &{};", list(&symbols));
    let _ = writeln!(code, "pub(super) static MEMBERS: &[(&str, &str)] = &{};", list(&members));
    let _ = writeln!(code, "pub(super) static TABLES: &[BuiltinTable] = &[");
    for profile in &profiles {
        let distances = symbols.iter().map(|name| {
            profile.symbols().find(|(own, _)| own == name).map_or(UNASKED, |(_, value)| value)
        });
        let fields = members.iter().map(|&(structure, path)| {
            let mut own = profile.members();
            own.find(|found| (found.0, found.1) == (structure, path))
                .map_or((UNASKED, 0), |(_, _, value)| value)
        });
        let _ = writeln!(
            code,
            "BuiltinTable {{ build_id: {:?}, release: {:?}, symbols: &{:?}, members: &{:?} }},",
            profile.text("build_id"),
            profile.text("release"),
            distances.collect::<Vec<_>>(),
            fields.collect::<Vec<_>>(),
        );
    }
    code.push_str("];\n");
    let folder = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let target = Path::new(&folder).join("tables.rs");
    fs::write(target, code).expect("OUT_DIR is writable");
}

/// Formats a set as an array.
fn list<T: std::fmt::Debug>(set: &BTreeSet<T>) -> String {
    format!("{:?}", set.iter().collect::<Vec<_>>())
}

/// Reads all profiles, in the order of their names.
fn read(folder: &Path) -> Vec<ProfileJson> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let bytes = fs::read(&path).expect("a listed file can be read");
            let content = serde_json::from_slice(&bytes)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            ProfileJson { path, content }
        })
        .collect()
}

impl ProfileJson {
    fn text(&self, key: &str) -> &str {
        self.content[key].as_str().unwrap_or_else(|| self.refuse(key))
    }

    /// Names of symbols, and their distances from the image's first byte.
    fn symbols(&self) -> impl Iterator<Item = (&str, u32)> {
        let symbols = self.content["symbols"].as_object();
        let symbols = symbols.unwrap_or_else(|| self.refuse("symbols"));
        symbols.iter().map(|(name, distance)| (name.as_str(), self.number(distance, name)))
    }

    /// Structures, paths, and their offsets and sizes.
    fn members(&self) -> impl Iterator<Item = (&str, &str, (u32, u32))> {
        let structures = self.content["members"].as_object();
        let structures = structures.unwrap_or_else(|| self.refuse("members"));
        structures.iter().flat_map(move |(structure, paths)| {
            let paths = paths.as_object().unwrap_or_else(|| self.refuse(structure));
            paths.iter().map(move |(path, field)| {
                let field = match field {
                    Value::Null => (ABSENT, 0),
                    field => (self.number(&field[0], path), self.number(&field[1], path)),
                };
                (structure.as_str(), path.as_str(), field)
            })
        })
    }

    fn number(&self, value: &Value, what: &str) -> u32 {
        if value.is_null() {
            return ABSENT;
        }
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        number.filter(|&number| number < UNASKED).unwrap_or_else(|| self.refuse(what))
    }

    fn refuse(&self, what: &str) -> ! {
        panic!("{}: {what} is not as `panoptes profile build` writes it", self.path.display())
    }
}
