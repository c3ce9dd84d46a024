//! `panoptes systems`: lists the systems that can be watched from this machine.

use std::fmt::Write as _;

use panoptes_sources::Kcore;
use serde_json::{Value, json};

use crate::config::Service;
use crate::dma;
use crate::exit::{Exit, Failure, print};
use crate::guests::{Guest, GuestMemoryKind, Users, find};

/// Lists the systems, for people or as one JSON object.
pub fn list(service: &Service, as_json: bool) -> Result<Exit, Failure> {
    let guests = find(&Users::of(&service.guest_users)).map_err(|error| {
        Failure::io(&error, Exit::Failed, "cannot list this machine's processes")
    })?;
    let dma = dma::find(service.doca_library_path.as_deref());
    let host_obstacle = Kcore::open().err().map(|error| error.to_string());
    let text = if as_json {
        format!("{}\n", object(&guests, host_obstacle.as_deref(), &dma))
    } else {
        let wanted = service.doca_library_path.is_some();
        table(&guests) + &host(host_obstacle.as_deref()) + &functions(&dma, wanted)
    };
    print(text.as_bytes())
}

fn object(guests: &[Guest], host_obstacle: Option<&str>, dma: &dma::DocaFunctionList) -> Value {
    let host = json!({
        "system": "host:",
        "can_be_watched": host_obstacle.is_none(),
        "obstacle": host_obstacle,
    });
    let guests = guests.iter().map(|guest| {
        json!({
            "system": format!("qemu:{}", guest.pid),
            "name": guest.name,
            "other_names": guest.other_names,
            "monitor": guest.monitor.name(),
            "uuid": guest.uuid,
            "user": guest.user,
            "memory_bytes": guest.memory_bytes,
            "memory": guest.memory.map(GuestMemoryKind::name),
            "accelerator": guest.has_kvm.map(accelerator),
            "encryption": guest.encryption,
            "can_be_watched": guest.obstacle.is_none(),
            "obstacle": guest.obstacle,
        })
    });
    let functions = dma.functions.iter().map(|function| {
        json!({
            "system": format!("doca:{}/{}", function.device, function.vuid),
            "dma_device": function.device,
            "representor_id": function.vuid,
            "function": function.kind,
            "pci_address": function.pci_address,
            "can_be_watched": function.obstacle.is_none(),
            "obstacle": function.obstacle,
        })
    });
    json!({
        "systems": guests.chain([host]).chain(functions).collect::<Vec<Value>>(),
        "doca": { "version": dma.version, "obstacle": dma.obstacle },
    })
}

const fn accelerator(has_kvm: bool) -> &'static str {
    if has_kvm { "kvm" } else { "tcg" }
}

fn table(guests: &[Guest]) -> String {
    if guests.is_empty() {
        return "no guest runs on this machine\n".to_owned();
    }
    let head = ["SYSTEM", "NAME", "UUID", "USER", "MEMORY", "SHARING", "ACCEL"].map(str::to_owned);
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

fn host(obstacle: Option<&str>) -> String {
    let mut text = "host:  this machine\n".to_owned();
    if let Some(obstacle) = obstacle {
        let _ = writeln!(text, "    cannot be watched: {obstacle}");
    }
    text
}

/// The functions of DMA devices. Most machines have neither a DMA device nor DOCA, so the output
/// mentions their absence only if they are `wanted`.
fn functions(dma: &dma::DocaFunctionList, wanted: bool) -> String {
    let mut text = String::new();
    let rows: Vec<[String; 3]> = dma
        .functions
        .iter()
        .map(|function| {
            let unknown = || "-".to_owned();
            [
                format!("doca:{}/{}", function.device, function.vuid),
                function.kind.clone().unwrap_or_else(unknown),
                function.pci_address.clone().unwrap_or_else(unknown),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let width = rows.iter().map(|row| row[0].chars().count()).max().unwrap_or(0);
        let _ = writeln!(text, "\n{:width$}  FUNCTION  HOST'S PCI ADDRESS", "SYSTEM");
        for ([system, kind, address], function) in rows.iter().zip(&dma.functions) {
            let _ = writeln!(text, "{system:width$}  {kind:8}  {address}");
            if let Some(obstacle) = &function.obstacle {
                let _ = writeln!(text, "    cannot be watched: {obstacle}");
            }
        }
    } else if let Some(obstacle) = &dma.obstacle
        && (wanted || dma.version.is_some())
    {
        let _ = writeln!(text, "no DMA device can be used: {obstacle}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_dma_devices_are_listed_after_guests() {
        let function = dma::Function {
            device: "mlx5_0".to_owned(),
            vuid: "MT1VF0".to_owned(),
            kind: Some("VF".to_owned()),
            pci_address: None,
            obstacle: None,
        };
        let other = dma::Function { obstacle: Some("because".to_owned()), ..function.clone() };
        let version = Some("3.2.0".to_owned());
        let found = dma::DocaFunctionList {
            version,
            functions: vec![function, other],
            ..Default::default()
        };
        assert_eq!(
            functions(&found, false),
            "\nSYSTEM              FUNCTION  HOST'S PCI ADDRESS\n\
             doca:mlx5_0/MT1VF0  VF        -\n\
             doca:mlx5_0/MT1VF0  VF        -\n    cannot be watched: because\n"
        );
        let object = object(&[], None, &found);
        assert_eq!(object["systems"][1]["system"], "doca:mlx5_0/MT1VF0");
        assert_eq!(object["systems"][2]["can_be_watched"], false);
        assert_eq!(object["doca"]["version"], "3.2.0");
        let none = dma::DocaFunctionList {
            obstacle: Some("it is not there".to_owned()),
            ..Default::default()
        };
        assert_eq!(functions(&none, false), "");
        assert_eq!(functions(&none, true), "no DMA device can be used: it is not there\n");
    }

    #[test]
    fn a_list_is_for_people_or_programs() {
        let guest = Guest {
            pid: 12,
            name: Some("web".to_owned()),
            user: "root".to_owned(),
            memory_bytes: Some(512 << 20),
            memory: Some(GuestMemoryKind::Private),
            has_kvm: Some(true),
            ..Guest::default()
        };
        let other = Guest { pid: 1234, obstacle: Some("because".to_owned()), ..guest.clone() };
        let text = table(&[guest.clone(), other.clone()]);
        assert_eq!(
            text,
            "SYSTEM     NAME  UUID  USER  MEMORY   SHARING  ACCEL\n\
             qemu:12    web   -     root  512 MiB  private  kvm\n\
             qemu:1234  web   -     root  512 MiB  private  kvm\n    cannot be watched: because\n"
        );
        let object = object(&[guest, other], Some("closed"), &dma::DocaFunctionList::default());
        let host_object = &object["systems"][2];
        assert_eq!(host_object["system"], "host:");
        assert_eq!(host_object["can_be_watched"], false);
        assert_eq!(host_object["obstacle"], "closed");
        assert_eq!(host(None), "host:  this machine\n");
        let text = "host:  this machine\n    cannot be watched: closed\n";
        assert_eq!(host(Some("closed")), text);
        assert_eq!(object["systems"][0]["system"], "qemu:12");
        assert_eq!(object["systems"][0]["can_be_watched"], true);
        assert_eq!(object["systems"][1]["obstacle"], "because");
        assert_eq!(table(&[]), "no guest runs on this machine\n");
    }
}
