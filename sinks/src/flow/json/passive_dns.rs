//! Answers of DNS as JSON lines.

use panoptes_records::flow::NameResolution;

use super::{
    Full, JsonLineFormat, JsonWriter, Text, Timestamp, application, line, write_source_id,
};

/// Bytes that are always enough for the line of a [`NameResolution`].
pub const RESOLUTION_BYTES_MAX: usize = 8192;

impl JsonLineFormat {
    /// Writes an answer and a line feed to the beginning of `out`, and returns the length in bytes;
    /// `None` if there is no room.
    pub fn resolution(&self, out: &mut [u8], resolution: &NameResolution<'_>) -> Option<usize> {
        line(out, |out| {
            out.word(",\"kind\":", "passive_dns")?;
            write_source_id(out, self.options.source_id)?;
            write(out, resolution)
        })
    }
}

fn write(out: &mut JsonWriter<'_>, resolution: &NameResolution<'_>) -> Result<(), Full> {
    out.ip_address(",\"server_address\":", resolution.server)?;
    if let Some(is_known) = resolution.is_known_server {
        out.boolean(",\"is_known_server\":", is_known)?;
    }
    out.ip_address(",\"client_address\":", resolution.client)?;
    out.text(",\"name\":", &Text::new(resolution.name))?;
    application::kind(out, ",\"type\":", resolution.kind)?;
    application::response_code(out, resolution.response_code)?;
    if !resolution.answer.is_empty() {
        out.text(",\"answer\":", &Text::new(resolution.answer))?;
    }
    out.integer(",\"count\":", resolution.count)?;
    out.timestamp(",\"first_time\":", Timestamp::from_ns(resolution.first_ns))?;
    out.timestamp(",\"last_time\":", Timestamp::from_ns(resolution.last_ns))
}
