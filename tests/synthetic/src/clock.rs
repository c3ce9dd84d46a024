//! The machine's clock and its counters.

use crate::machine::Machine;

/// Calendar time of the boot, in seconds since 1970.
const BOOT_SECONDS: u64 = 1_790_000_000;
const NS_PER_SECOND: u64 = 1_000_000_000;
/// `tkr_mono.shift` of a time stamp counter.
const SHIFT: u64 = 24;

impl Machine {
    pub(crate) fn boot_clock(&mut self) {
        let at = self.kernel.timekeeper();
        let layout = self.layouts().timekeeper;
        let source = self.kernel.code(9);
        self.memory.put(at, layout.offs_real, BOOT_SECONDS * NS_PER_SECOND);
        self.memory.put(at, layout.offs_boot, 0);
        self.memory.put(at, layout.shift, SHIFT);
        for (path, value) in [
            ("wall_to_monotonic.tv_sec", BOOT_SECONDS.wrapping_neg()),
            ("wall_to_monotonic.tv_nsec", 0),
            ("tkr_mono.clock", source.0),
            ("tkr_raw.clock", source.0),
        ] {
            let field = self.kernel.field("timekeeper", path);
            self.memory.put_optional(at, field, value);
        }
        if let Some(khz) = self.kernel.find("tsc_khz") {
            self.memory.write(khz, &2_600_000_u32.to_le_bytes());
        }
        if let Some(id) = self.kernel.find("sysctl_bootid") {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&self.random.next().to_le_bytes());
            bytes[8..].copy_from_slice(&self.random.next().to_le_bytes());
            self.memory.write(id, &bytes);
        }
        self.tick(0);
    }

    /// Lets time pass: the clock's sequence counter is odd while it changes
    /// (`timekeeping_advance`, kernel/time/timekeeping.c).
    pub fn tick(&mut self, nanoseconds: u64) {
        self.interrupt(|machine| machine.advance_clock(nanoseconds));
    }

    /// The same in the middle of an operation, whose stores still wait to be played.
    pub fn tick_amid(&mut self, nanoseconds: u64) {
        self.memory.set_amid(true);
        self.tick(nanoseconds);
        self.memory.set_amid(false);
    }

    fn advance_clock(&mut self, nanoseconds: u64) {
        self.now_ns += nanoseconds;
        let at = self.kernel.timekeeper();
        let counter = self.kernel.find("tk_core").or_else(|| self.kernel.find("timekeeper_data"));
        let counter = counter.expect("the profile has the clock");
        let sequence = self.memory.word(counter) as u32;
        self.memory.write(counter, &sequence.wrapping_add(1).to_le_bytes());
        let layout = self.layouts().timekeeper;
        let real = self.calendar_ns();
        let fraction = real % NS_PER_SECOND;
        self.memory.put(at, layout.xtime_sec, real / NS_PER_SECOND);
        self.memory.put(at, layout.xtime_nsec, fraction << SHIFT);
        self.memory.put_optional(at, layout.coarse_nsec, fraction);
        self.memory.write(counter, &sequence.wrapping_add(2).to_le_bytes());
        if let Some(jiffies) = self.kernel.find("jiffies_64") {
            self.memory.put_word(jiffies, 0xffff_b6c2 + self.now_ns / 4_000_000);
        }
    }

    /// Puts the clocks back: an earlier state was restored.
    pub fn rewind(&mut self, nanoseconds: u64) {
        self.now_ns -= nanoseconds;
        self.tick(0);
    }

    /// Calendar time of the machine in nanoseconds since 1970.
    pub fn calendar_ns(&self) -> u64 {
        (BOOT_SECONDS * NS_PER_SECOND + self.now_ns).wrapping_add_signed(self.step_ns)
    }

    /// Nanoseconds since the boot.
    pub fn uptime_ns(&self) -> u64 {
        self.now_ns
    }

    /// Sets the calendar time forth or back by this many nanoseconds (`timekeeping_inject_offset`,
    /// kernel/time/timekeeping.c).
    pub fn step_clock(&mut self, nanoseconds: i64) {
        self.step_ns += nanoseconds;
        let at = self.kernel.timekeeper();
        let offset = (BOOT_SECONDS * NS_PER_SECOND).wrapping_add_signed(self.step_ns);
        self.memory.put(at, self.layouts().timekeeper.offs_real, offset);
        self.tick(0);
    }
}
