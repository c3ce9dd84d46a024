//! Receivers of our own, each a process: what arrives on a connection goes into a file of its own.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use clap::ValueEnum;

use crate::tls::{self, Certificates};

/// What a receiver understands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    Json,
    Syslog,
    Forward,
    Http,
    /// Lines over TLS.
    Tls,
    Https,
}

/// Receives until it is killed. The names of the files begin with `run`.
pub(crate) fn run(format: Format, port: u16, folder: &Path, run: u32) -> io::Result<()> {
    let config = Certificates::of(folder).server()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    for connection in 1.. {
        let stream = listener.accept()?.0;
        let file = File::create_new(folder.join(format!("{run:03}-{connection:03}")))?;
        let config = Arc::clone(&config);
        thread::spawn(move || {
            let read = match format {
                Format::Json => lines(stream, file),
                Format::Syslog => syslog(stream, file),
                Format::Forward => forward(stream, file),
                Format::Http => http(stream, file),
                Format::Tls => tls::accept(&config, stream).and_then(|one| lines(one, file)),
                Format::Https => tls::accept(&config, stream).and_then(|one| http(one, file)),
            };
            if let Err(why) = read {
                eprintln!("delivery: {format:?}: {why}");
            }
        });
    }
    Ok(())
}

fn lines(mut stream: impl Read, mut file: File) -> io::Result<()> {
    io::copy(&mut stream, &mut file).map(drop)
}

/// Messages with octet counting (RFC 6587 §3.4.1); only the record of each is kept.
fn syslog(stream: TcpStream, mut file: File) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut length = Vec::new();
    loop {
        length.clear();
        if stream.read_until(b' ', &mut length)? == 0 {
            return Ok(());
        }
        let length = str::from_utf8(&length).ok().and_then(|text| text.trim_end().parse().ok());
        let mut message = vec![0; length.ok_or(io::ErrorKind::InvalidData)?];
        stream.read_exact(&mut message)?;
        let at = message.iter().position(|byte| *byte == b'{').unwrap_or(0);
        message.push(b'\n');
        file.write_all(&message[at..])?;
    }
}

/// Messages of the Forward protocol: `[tag, [[time, record], …], {"size": n, "chunk": id}]`. A
/// message is acknowledged when its records are in the file.
fn forward(stream: TcpStream, mut file: File) -> io::Result<()> {
    let mut answers = stream.try_clone()?;
    let mut stream = BufReader::new(stream);
    while !stream.fill_buf()?.is_empty() {
        let message = rmpv::decode::read_value(&mut stream).map_err(io::Error::other)?;
        let entries = message[1].as_array().ok_or(io::ErrorKind::InvalidData)?;
        let mut text = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut text, &entry[1])?;
            text.push(b'\n');
        }
        file.write_all(&text)?;
        let answer = rmpv::Value::Map(vec![("ack".into(), message[2]["chunk"].clone())]);
        rmpv::encode::write_value(&mut answers, &answer).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Requests of HTTP whose bodies are lines. A request is answered when its body is in the file.
fn http(stream: impl Read + Write, mut file: File) -> io::Result<()> {
    const TAKEN: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n";
    let mut stream = BufReader::new(stream);
    while !stream.fill_buf()?.is_empty() {
        let mut body = vec![0; body_length(&mut stream)?];
        stream.read_exact(&mut body)?;
        file.write_all(&body)?;
        stream.get_mut().write_all(TAKEN)?;
    }
    Ok(())
}

/// Reads the head of a request.
fn body_length(stream: &mut impl BufRead) -> io::Result<usize> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("Content-Length").then(|| value.trim().parse().ok())?
    };
    let length = head.lines().find_map(field).filter(|_| head.starts_with("POST "));
    length.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use panoptes_bounded as bounded;

    use super::*;

    #[test]
    fn a_connection_may_have_many_requests() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("file");
        let file = File::create_new(&path).expect("the folder has room");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let receiver = thread::spawn(move || http(bounded::accept(&listener)?, file));
        let mut stream = bounded::connect(address).expect("the receiver listens");
        for request in
            ["POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n{}\n", "GET / HTTP/1.1\r\n\r\n"]
        {
            stream.write_all(request.as_bytes()).expect("the receiver reads");
        }
        let mut answers = String::new();
        stream.read_to_string(&mut answers).expect("the receiver ends");
        assert_eq!(answers.matches("200 OK").count(), 1);
        assert_eq!(std::fs::read_to_string(path).expect("it is there"), "{}\n");
        assert!(receiver.join().expect("it does not panic").is_err());
    }
}
