//! `panoptes systems`: what can be watched from here.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write};

use serde_json::{Value, json};

use crate::exit::{Exit, Failure};
use crate::guests::{Guest, Keeping, Users, find};

/// Lists the systems, for people or as one JSON object.
pub fn list(users: &[String], as_json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let guests = find(&Users::of(users)).map_err(|error| {
        let exit = Exit::from_io(&error, Exit::Failed);
        Failure::new(exit, format!("cannot list this machine's processes: {error}"))
    })?;
    let text = if as_json { format!("{}\n", object(&guests)) } else { table(&guests) };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Output, format!("cannot write to standard output: {error}")))
        }
        _ => Ok(Exit::Done),
    }
}

fn object(guests: &[Guest]) -> Value {
    let systems = guests.iter().map(|guest| {
        json!({
            "system": format!("qemu:{}", guest.pid),
            "name": guest.name,
            "uuid": guest.uuid,
            "user": guest.user,
            "memory_bytes": guest.memory_bytes,
            "memory": guest.memory.map(Keeping::name),
            "accelerator": guest.has_kvm.map(accelerator),
            "encryption": guest.encryption,
            "can_be_watched": guest.obstacle.is_none(),
            "obstacle": guest.obstacle,
        })
    });
    json!({ "systems": systems.collect::<Vec<Value>>() })
}

const fn accelerator(has_kvm: bool) -> &'static str {
    if has_kvm { "kvm" } else { "tcg" }
}

fn table(guests: &[Guest]) -> String {
    if guests.is_empty() {
        return "no QEMU guest runs on this machine\n".to_owned();
    }
    let head = ["SYSTEM", "NAME", "UUID", "USER", "MEMORY", "KEPT", "RUNS ON"].map(str::to_owned);
    let mut rows = vec![head];
    rows.extend(guests.iter().map(|guest| {
        let unknown = || "-".to_owned();
        [
            format!("qemu:{}", guest.pid),
            guest.name.clone().unwrap_or_else(unknown),
            guest.uuid.clone().unwrap_or_else(unknown),
            guest.user.clone(),
            guest.memory_bytes.map_or_else(unknown, |bytes| format!("{} MiB", bytes >> 20)),
            guest.memory.map_or_else(unknown, |memory| memory.name().to_owned()),
            guest.has_kvm.map_or_else(unknown, |has_kvm| accelerator(has_kvm).to_owned()),
        ]
    }));
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
        let obstacle = index.checked_sub(1).and_then(|index| guests[index].obstacle.as_ref());
        if let Some(obstacle) = obstacle {
            let _ = writeln!(text, "    cannot be watched: {obstacle}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_for_people_or_programs() {
        let guest = Guest {
            pid: 12,
            name: Some("web".to_owned()),
            uuid: None,
            user: "root".to_owned(),
            memory_bytes: Some(512 << 20),
            memory: Some(Keeping::Private),
            has_kvm: Some(true),
            encryption: None,
            obstacle: None,
            files: Vec::new(),
        };
        let other = Guest { pid: 1234, obstacle: Some("because".to_owned()), ..guest.clone() };
        let text = table(&[guest.clone(), other.clone()]);
        assert_eq!(
            text,
            "SYSTEM     NAME  UUID  USER  MEMORY   KEPT     RUNS ON\n\
             qemu:12    web   -     root  512 MiB  private  kvm\n\
             qemu:1234  web   -     root  512 MiB  private  kvm\n    cannot be watched: because\n"
        );
        let object = object(&[guest, other]);
        assert_eq!(object["systems"][0]["system"], "qemu:12");
        assert_eq!(object["systems"][0]["can_be_watched"], true);
        assert_eq!(object["systems"][1]["obstacle"], "because");
        assert_eq!(table(&[]), "no QEMU guest runs on this machine\n");
    }
}
