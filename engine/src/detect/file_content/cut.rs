//! Shares of the room for closings: users with very many take no room of others.

use panoptes_tables::fair_share;

use super::FileContent;
use super::closing::{ClosedDescriptor, ClosingStage};
use crate::page_cache::Asker;

impl FileContent {
    /// Removes closings for which `counts` holds until at most `room` of them are left: those of
    /// the users with most, and of their processes with most. Those whose files have certainly
    /// changed stay first.
    pub(super) fn cut(&mut self, room: usize, counts: impl Fn(&ClosedDescriptor) -> bool) {
        self.closings.sort_unstable_by_key(|closing| {
            let Asker { group, process_id } = closing.asker();
            (
                group,
                process_id,
                !matches!(closing.stage, ClosingStage::Waiting { .. }),
                !closing.opened.written,
            )
        });
        let numbers = || self.closings.chunk_by(is_of_one_group).map(|of| number(of, &counts));
        let share = fair_share(room as u64, numbers);
        let lost = &mut self.lost;
        for group in self.closings.chunk_by_mut(is_of_one_group) {
            if number(group, &counts) > share {
                cut_group(group, share, &counts, |process_id| lost.add(1, Some(process_id)));
            }
        }
        self.remove_over();
    }
}

fn is_of_one_group(one: &ClosedDescriptor, next: &ClosedDescriptor) -> bool {
    one.process.group() == next.process.group()
}

/// Number of those that count.
fn number(closings: &[ClosedDescriptor], counts: &impl Fn(&ClosedDescriptor) -> bool) -> u64 {
    closings.iter().filter(|closing| counts(closing)).count() as u64
}

/// Cuts the sorted closings of one user down to `room` of those that count. Each process keeps an
/// equal part. Calls `lost` with the process of each cut one.
fn cut_group(
    closings: &mut [ClosedDescriptor],
    room: u64,
    counts: &impl Fn(&ClosedDescriptor) -> bool,
    mut lost: impl FnMut(u32),
) {
    let process = |closing: &ClosedDescriptor| closing.process.process_id();
    let of_processes = || closings.chunk_by(|one, next| process(one) == process(next));
    let share = fair_share(room, || of_processes().map(|of| number(of, counts))).max(1);
    let (mut last, mut position) = (None, 0);
    for closing in closings.iter_mut() {
        let id = process(closing);
        if last.replace(id) != Some(id) {
            position = 0;
        }
        position += u64::from(counts(closing));
        if counts(closing) && position > share {
            closing.stage = ClosingStage::Over;
            lost(id);
        }
    }
    // More processes than places: those whose files stay open wait longest.
    let kept = |closing: &ClosedDescriptor| closing.stage != ClosingStage::Over && counts(closing);
    let mut more = number(closings, &kept).saturating_sub(room);
    for closing in closings.iter_mut().rev().filter(|closing| counts(closing)) {
        if more > 0 && matches!(closing.stage, ClosingStage::Open { .. }) {
            closing.stage = ClosingStage::Over;
            lost(process(closing));
            more -= 1;
        }
    }
}
