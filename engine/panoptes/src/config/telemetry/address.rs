//! Where a receiver is.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use super::known::refuse_scheme;
use crate::config::value::Setting;

/// A host and a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NetworkAddress {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    pub port: u16,
}

/// Where HTTP requests go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Url {
    /// Whether it is an https:// URL.
    pub is_tls: bool,
    pub address: NetworkAddress,
    /// The path, and the query if there is one.
    pub path: String,
}

/// The name of a host, or its address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostName(pub String);

impl Setting for NetworkAddress {
    const FORM: &'static str = "host:port";

    fn show(&self) -> String {
        self.to_string()
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        const FORM: &str = "is not host:port; write for example 127.0.0.1:24224, [::1]:24224 or \
                            collector.example.com:24224";
        refuse_scheme(text)?;
        if text.contains("://") {
            return Err("is a URL, which needs `transport: http`; write host:port".to_owned());
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| FORM.to_owned())?;
        let port: u16 =
            port.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
                format!("has no port from 1 to {} after its last colon", u16::MAX)
            })?;
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) => inner.parse::<Ipv6Addr>().ok().map(|_| inner),
            None => is_host_name(host).then_some(host),
        };
        let host = host.ok_or_else(|| FORM.to_owned())?.to_owned();
        Ok(Self { host, port })
    }
}

impl Url {
    /// The URL without its query, which may hold a secret.
    pub fn without_query(&self) -> String {
        let url = self.to_string();
        url.split('?').next().unwrap_or_default().to_owned()
    }
}

impl fmt::Display for NetworkAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => write!(out, "[{address}]:{}", self.port),
            _ => write!(out, "{}:{}", self.host, self.port),
        }
    }
}

impl Url {
    /// What a user can write.
    pub(super) const EXAMPLE: &str = "a URL such as https://collector.example.com:4318/v1/logs";

    /// The same URL with this path, unless it has one.
    pub(super) fn or_path(mut self, path: &str) -> Self {
        if self.path.is_empty() {
            path.clone_into(&mut self.path);
        }
        self
    }
}

impl Setting for Url {
    const FORM: &'static str = "http:// or https:// URL";

    fn show(&self) -> String {
        self.to_string()
    }

    fn read(text: &str, base: &Path) -> Result<Self, String> {
        let wrong = || format!("is not {}", Self::EXAMPLE);
        refuse_scheme(text)?;
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (is_tls, port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return Err(wrong()),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("contains a user; write `headers: {Authorization: …}` instead".to_owned());
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err("has characters in its path that must be written as %XX".to_owned());
        }
        // The colons of an IPv6 address are in brackets.
        let has_port = authority.rsplit(']').next().is_some_and(|end| end.contains(':'));
        let default = format!("{authority}:{port}");
        let authority = if has_port { authority } else { default.as_str() };
        let path = if path.starts_with('?') { format!("/{path}") } else { path.to_owned() };
        Ok(Self { is_tls, address: NetworkAddress::read(authority, base)?, path })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(out, "{scheme}://{}{}", self.address, self.path)
    }
}

impl Setting for HostName {
    const FORM: &'static str = "name of a host";

    fn show(&self) -> String {
        self.0.clone()
    }

    fn read(text: &str, _base: &Path) -> Result<Self, String> {
        if is_host_name(text) || text.parse::<IpAddr>().is_ok() {
            Ok(Self(text.to_owned()))
        } else {
            Err("is not the name of a host, such as collector.example.com".to_owned())
        }
    }
}

fn is_host_name(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_are_named_by_host_and_port() {
        let read =
            |text| NetworkAddress::read(text, Path::new("")).map(|address| address.to_string());
        for good in ["127.0.0.1:24224", "[::1]:24224", "collector.example.com:514"] {
            assert_eq!(read(good).as_deref(), Ok(good));
        }
        for wrong in ["", "host", "host:", ":1", "host:0", "host:70000", "::1:5", "[x]:1", "a b:1"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn urls_have_a_scheme_and_a_host() {
        let read = |text| Url::read(text, Path::new("")).map(|url| url.show());
        for (good, shown) in [
            ("http://a:4318/v1/logs", "http://a:4318/v1/logs"),
            ("https://a.example.com", "https://a.example.com:443"),
            ("HTTP://[::1]/", "http://[::1]:80/"),
            ("http://[::1]:9/x?y=%20", "http://[::1]:9/x?y=%20"),
            ("http://a?b", "http://a:80/?b"),
        ] {
            assert_eq!(read(good).as_deref(), Ok(shown));
        }
        for wrong in [
            "",
            "a:1",
            "ftp://a",
            "http://",
            "http:///x",
            "http://a:0/",
            "http://::1/",
            "http://a/b c",
            "http://a/#x",
            "http://user:word@a/",
            "http://a/\n",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
