//! Data that real programs sent. The files in `captured` say how each was recorded.

/// The data of all files, by name.
pub(super) fn all() -> Vec<(String, Vec<u8>)> {
    [TLS, DNS, HTTP, SSH].iter().flat_map(|text| parts(text)).collect()
}

pub(super) const TLS: &str = include_str!("captured/tls.txt");
pub(super) const DNS: &str = include_str!("captured/dns.txt");
pub(super) const HTTP: &str = include_str!("captured/http.txt");
const SSH: &str = include_str!("captured/ssh.txt");

/// The data with a name.
pub(super) fn data(name: &str) -> Vec<u8> {
    let found = all().into_iter().find(|(other, _)| other == name);
    found.unwrap_or_else(|| panic!("no data named {name}")).1
}

/// The names and data in a file.
pub(super) fn parts(text: &str) -> Vec<(String, Vec<u8>)> {
    let parts = text.split("\n\n").skip(1).map(|part| {
        let mut lines = part.lines().filter(|line| !line.starts_with('#'));
        let name = lines.next().expect("a name");
        (name.to_owned(), bytes(&lines.collect::<String>()))
    });
    parts.collect()
}

/// Bytes from hexadecimal digits.
pub(super) fn bytes(digits: &str) -> Vec<u8> {
    let digits: Vec<char> = digits.chars().filter(|c| !c.is_whitespace()).collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    assert!(rest.is_empty(), "an odd number of digits");
    let byte = |[high, low]: &[char; 2]| {
        let value = |c: &char| c.to_digit(16).expect("a hexadecimal digit") as u8;
        value(high) << 4 | value(low)
    };
    pairs.iter().map(byte).collect()
}
