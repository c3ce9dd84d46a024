//! The memory of monitors other than QEMU. Their arguments do not tell the sizes of all regions,
//! but each region of physical addresses is one area, or the end of one that others adjoin.

use std::cmp::Reverse;

use super::maps::{self, MachineMap};
use super::{
    ALTERNATIVES_MAX, Area, AreaBacking, AreaLabel, MEMORY_BYTES_MIN, Machine, PlacedArea,
    blocks_of, place,
};

/// Largest number of layouts that are tried.
const LAYOUTS_MAX: usize = 64;
/// Largest number of areas of one guest. Firecracker has at most three, crosvm at most four.
const REGIONS_MAX: usize = 64;

/// The possible layouts, the likeliest first.
pub(super) fn layouts(areas: &[Area], machine: Machine) -> Vec<Vec<PlacedArea>> {
    let mut found: Vec<Vec<PlacedArea>> = Vec::new();
    let labelled = orders_by_label(areas, machine);
    let blocks: Vec<Area> =
        blocks_of(areas).into_iter().filter(|area| area.bytes() >= MEMORY_BYTES_MIN).collect();
    for map in maps::of_monitor(machine) {
        let mut orders = labelled.clone();
        if labelled.is_empty() {
            orders.extend(regions(&blocks, &map));
        }
        for order in orders {
            let total = order.iter().map(Area::bytes).fold(0, u64::saturating_add);
            let layout = place(&order, total, &[], (&map, 1));
            if let Some(layout) = layout.filter(|layout| !found.contains(layout))
                && found.len() < LAYOUTS_MAX
            {
                found.push(layout);
            }
        }
    }
    found
}

/// The areas that claim to be the memory of this monitor, in the orders that they can have.
fn orders_by_label(areas: &[Area], machine: Machine) -> Vec<Vec<Area>> {
    let wanted = match machine {
        Machine::Firecracker => AreaLabel::Firecracker,
        Machine::CloudHypervisor => AreaLabel::CloudHypervisor,
        Machine::Crosvm => AreaLabel::Crosvm,
        Machine::StratoVirt => AreaLabel::StratoVirt,
        _ => return Vec::new(),
    };
    let place_of = |area: &Area| match area.backing {
        AreaBacking::File { identity, offset, .. } => (identity, offset),
        AreaBacking::Private => ((0, 0, 0), 0),
    };
    let mut all: Vec<Area> =
        areas.iter().filter(|area| area.label == wanted).take(REGIONS_MAX).cloned().collect();
    // A region may be mapped twice, as for a device.
    all.sort_by_key(|area| (place_of(area), area.range.start));
    all.dedup_by_key(|area| place_of(area));
    if all.is_empty() {
        return Vec::new();
    }
    // One file has the regions in the order of addresses. Of several files, the first one was made
    // first, and has the lowest number or the highest address.
    let mut by_address = all.clone();
    by_address.sort_by_key(|area| Reverse(area.range.start));
    vec![all, by_address]
}

/// Areas that can be the regions of a map.
fn regions(blocks: &[Area], map: &MachineMap) -> Vec<Vec<Area>> {
    let mut largest: Vec<&Area> = blocks.iter().collect();
    largest.sort_by_key(|area| Reverse(area.bytes()));
    let mut orders = Vec::new();
    let first = largest.iter().find(|area| area.bytes() == map.low_bytes());
    if let Some(first) = first {
        // The first region is full: another area has the rest.
        let rest = largest.iter().filter(|area| area.range.start != first.range.start);
        orders.extend(rest.take(3).map(|rest| vec![(*first).clone(), (*rest).clone()]));
    }
    for area in largest.into_iter().take(ALTERNATIVES_MAX) {
        // The kernel puts the next area below the last one, and makes one area of both.
        orders.extend(parts_from_end(area, map));
        orders.push(vec![area.clone()]);
    }
    orders
}

/// The regions of a map in an area that has the first one at its end.
fn parts_from_end(area: &Area, map: &MachineMap) -> Option<Vec<Area>> {
    if area.backing != AreaBacking::Private || area.bytes() <= map.low_bytes() {
        return None;
    }
    let mut end = area.range.end;
    let mut regions = Vec::new();
    for range in map.ranges() {
        let bytes = (range.end - range.start).min(end - area.range.start);
        if bytes == 0 {
            break;
        }
        regions.push(Area { range: end - bytes..end, ..area.clone() });
        end -= bytes;
    }
    Some(regions)
}
