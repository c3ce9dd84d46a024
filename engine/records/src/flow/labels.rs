//! What others say of a flow: the network of an address, the process that owns it.

/// The most labels of a flow.
const LABELS_MAX: usize = 8;
/// The most bytes of all labels of a flow, with a byte between two of them. Clients have the length
/// of the part in words, in one byte.
pub const LABELS_BYTES_MAX: usize = 252;

/// The labels of a flow. Each is `NAME=TEXT` or `NAME=TEXT,TEXT`, as ralabel(1) writes them.
///
/// Clients of argus take a colon as the end of a label, so it is written as `_`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Labels<'a> {
    all: [&'a str; LABELS_MAX],
    count: usize,
    bytes: usize,
}

impl<'a> Labels<'a> {
    /// Adds a label. Returns whether there was room; an empty one needs none.
    pub fn add(&mut self, label: &'a str) -> bool {
        if label.is_empty() {
            return true;
        }
        let bytes = self.bytes + usize::from(self.count > 0) + label.len();
        let Some(place) = self.all.get_mut(self.count).filter(|_| bytes <= LABELS_BYTES_MAX) else {
            return false;
        };
        *place = label;
        (self.count, self.bytes) = (self.count + 1, bytes);
        true
    }

    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The labels in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> {
        self.all.into_iter().take(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_limits() {
        let mut labels = Labels::default();
        assert!(labels.add("") && labels.is_empty());
        let long = "x".repeat(LABELS_BYTES_MAX - 3);
        let longer = "x".repeat(LABELS_BYTES_MAX - 2);
        assert!(labels.add("ab"));
        // With the byte between them, this fits; one more byte does not.
        assert!(!labels.add(&longer));
        assert!(labels.add(&long));
        assert_eq!(labels.iter().collect::<Vec<_>>(), ["ab", &long]);
        let mut labels = Labels::default();
        assert!((0..LABELS_MAX).all(|_| labels.add("a")));
        assert!(!labels.add("a"));
    }
}
