//! The C library that programs for distributions may need.

/// The newest version that a program may need: packages require it (`engine/panoptes/Cargo.toml`).
/// That of Ubuntu 22.04, which BlueFields run, is newer.
pub(crate) const GLIBC_MAX: (u32, u32) = (2, 34);

/// Checks that a program needs no newer glibc than [`GLIBC_MAX`], prints the one that it needs, and
/// returns it. `symbols` are those that it uses, as objdump prints them, or its bytes as text, in
/// which the names of versions stand.
pub(crate) fn check(symbols: &str) -> Result<(u32, u32), String> {
    let (major, minor) = newest(symbols).ok_or("the program uses no symbol of glibc")?;
    println!("the program needs glibc {major}.{minor}");
    if (major, minor) > GLIBC_MAX {
        return Err(format!("that is newer than {}.{}", GLIBC_MAX.0, GLIBC_MAX.1));
    }
    Ok((major, minor))
}

/// The newest version of glibc among symbols: `(GLIBC_2.17) memcpy`.
fn newest(symbols: &str) -> Option<(u32, u32)> {
    let versions = symbols.split("GLIBC_").skip(1).filter_map(|text| {
        let end = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
        let mut numbers = text[..end].split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    versions.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_glibc_is_found_among_symbols() {
        let symbols = "0000000000000000      DF *UND*  0000000000000000 (GLIBC_2.9)  a\n\
                       0000000000000000      DF *UND*  0000000000000000 (GLIBC_2.34) b\n\
                       0000000000000000  w   DF *UND*  0000000000000000 (GLIBC_2.17) c\n\
                       0000000000000000      DF *UND*  0000000000000000 (GCC_3.0) d\n";
        assert_eq!(newest(symbols), Some((2, 34)));
        assert_eq!(newest("no symbols"), None);
    }

    #[test]
    fn a_newer_glibc_is_refused() {
        let (major, minor) = GLIBC_MAX;
        assert_eq!(check(&format!("\0GLIBC_{major}.{minor}\0GLIBC_2.2.5\0")), Ok(GLIBC_MAX));
        assert!(check(&format!("GLIBC_{major}.{}", minor + 1)).is_err());
        assert!(check("").is_err());
    }
}
