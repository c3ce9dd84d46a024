//! Receivers of our own, each a process: what arrives on a connection goes into a file of its own.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use clap::ValueEnum;

/// What a receiver understands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    Json,
    Syslog,
    Forward,
}

/// Receives until it is killed. The names of the files begin with `run`.
pub(crate) fn run(format: Format, port: u16, folder: &Path, run: u32) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    for connection in 1.. {
        let stream = listener.accept()?.0;
        let file = File::create_new(folder.join(format!("{run:03}-{connection:03}")))?;
        thread::spawn(move || {
            let read = match format {
                Format::Json => lines(stream, file),
                Format::Syslog => syslog(stream, file),
                Format::Forward => forward(stream, file),
            };
            if let Err(why) = read {
                eprintln!("delivery: {format:?}: {why}");
            }
        });
    }
    Ok(())
}

fn lines(mut stream: TcpStream, mut file: File) -> io::Result<()> {
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
