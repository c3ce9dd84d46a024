//! Writes symbol tables like scripts/kallsyms.c.

/// Tables in the format of scripts/kallsyms.c, with a few tokens of several characters.
pub(crate) struct Tables {
    pub(crate) names: Vec<u8>,
    pub(crate) token_table: Vec<u8>,
    pub(crate) token_index: [u8; 512],
}

pub(crate) fn compress(names: &[&str]) -> Tables {
    let long: [(u8, &str); 3] = [(1, "init_"), (2, "task"), (200, "kallsyms_")];
    let (mut token_table, mut token_index) = (Vec::new(), [0; 512]);
    for token in 0..=255_u8 {
        let index = usize::from(token) * 2;
        token_index[index..index + 2].copy_from_slice(&(token_table.len() as u16).to_le_bytes());
        match long.iter().find(|(number, _)| *number == token) {
            Some((_, text)) => token_table.extend(text.as_bytes()),
            None if token.is_ascii_graphic() => token_table.push(token),
            None => {}
        }
        token_table.push(0);
    }
    let mut encoded = Vec::new();
    for name in names {
        let mut tokens = Vec::new();
        let mut rest = *name;
        while let Some(character) = rest.chars().next() {
            if let Some((number, text)) = long.iter().find(|(_, text)| rest.starts_with(text)) {
                tokens.push(*number);
                rest = &rest[text.len()..];
            } else {
                tokens.push(character as u8);
                rest = &rest[1..];
            }
        }
        if tokens.len() < 0x80 {
            encoded.push(tokens.len() as u8);
        } else {
            encoded.push((tokens.len() & 0x7f) as u8 | 0x80);
            encoded.push((tokens.len() >> 7) as u8);
        }
        encoded.extend(tokens);
    }
    Tables { names: encoded, token_table, token_index }
}
