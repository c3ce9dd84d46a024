//! What a receiver that took a request of HTTP does not take of its records, as it says in its
//! answer: one of OpenTelemetry ("Partial Success"), or of Elasticsearch's bulk API (`items`).
//!
//! Not for: a receiver that refuses a whole request.

use serde_json::Value;

/// The records that the receiver has not taken, though it took the others.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Rejection {
    pub(super) records: u64,
    /// Whether it may take some of the records later.
    pub(super) is_busy: bool,
}

/// The answer does not tell which records the receiver has taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unreadable;

impl Rejection {
    /// Reads the content of an answer; `is_bulk`: that of a bulk API.
    ///
    /// # Errors
    ///
    /// The answer has the results of a bulk API, or should have them, and is not complete.
    pub(super) fn read(content: &[u8], is_bulk: bool) -> Result<Self, Unreadable> {
        let text = String::from_utf8_lossy(content);
        if is_bulk || text.contains("\"items\"") {
            return Self::of_items(content);
        }
        Ok(Self { records: rejected_logs(&text), is_busy: false })
    }

    /// Counts the failed ones in `{"errors": true, "items": [{"create": {"status": 400, …}}, …]}`.
    /// A document that exists already (409) came before. The parameter `filter_path` leaves out
    /// members.
    fn of_items(content: &[u8]) -> Result<Self, Unreadable> {
        let answer: Value = serde_json::from_slice(content).or(Err(Unreadable))?;
        let answer = answer.as_object().ok_or(Unreadable)?;
        let (errors, items) = (answer.get("errors"), answer.get("items"));
        match errors.and_then(Value::as_bool) {
            Some(false) => return Ok(Self::default()),
            Some(true) if items.is_none() => return Err(Unreadable),
            Some(true) | None => {}
        }
        let items = items.and_then(Value::as_array).into_iter().flatten();
        let results = items.filter_map(|item| item.as_object()?.values().next());
        Ok(results.fold(Self::default(), |all, result| match result["status"].as_u64() {
            Some(200..300 | 409) => all,
            Some(429 | 503) => Self { is_busy: true, ..all },
            None if result["error"].is_null() => all,
            Some(_) | None => Self { records: all.records + 1, ..all },
        }))
    }
}

/// The number in `{"partialSuccess": {"rejectedLogRecords": "3", …}}`.
fn rejected_logs(text: &str) -> u64 {
    let Some((_, rest)) = text.split_once("\"rejectedLogRecords\"") else { return 0 };
    let rest = rest.trim_start_matches([':', ' ', '"']);
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_leaves_out_members_is_read_as_far_as_it_goes() {
        let read = |text: &str| Rejection::read(text.as_bytes(), true);
        assert_eq!(read("{}"), Ok(Rejection::default()));
        assert_eq!(read(r#"{"errors":false}"#), Ok(Rejection::default()));
        let one = Ok(Rejection { records: 1, is_busy: false });
        assert_eq!(read(r#"{"items":[{"create":{"error":{"reason":"x"}}},{"create":{}}]}"#), one);
        assert_eq!(read(r#"{"errors":true,"items":[{"create":{"status":400}}]}"#), one);
        for text in ["", "7", "{", r#"{"errors":true}"#, r#"{"errors":true,"items":[7,"#] {
            assert_eq!(read(text), Err(Unreadable), "{text}");
        }
    }
}
