//! Every capacity, in one place.
//!
//! All capacities are fixed at start. Entries that do not fit are counted and reported; no table
//! ever grows.
//!
//! `limits!` is the only list of the configurable limits. It makes [`Limits`] (the values),
//! [`Limit`] (the limited tables) and [`Limits::SETTINGS`] (the keys, for the configuration, the
//! help and the documentation). A new limit is one line here.

use core::ops::RangeInclusive;

use panoptes_records::activities::Activity;

/// A key of `limits` in the configuration.
#[derive(Clone, Debug)]
pub struct LimitSetting {
    pub key: &'static str,
    pub default: u32,
    pub range: RangeInclusive<u32>,
    /// The limited objects, in a few words.
    pub help: &'static str,
    /// The setting's field.
    pub field: fn(&mut Limits) -> &mut u32,
}

/// Declares the limits. A line has key, default, range and help; that of a table also has its
/// [`Limit`], its noun, and the activity that reports that it is full. The tables under `derived`
/// have no setting of their own; a word stands in for their key.
macro_rules! limits {
    (
        settings {
            $($key:ident = $default:literal in $range:expr, $help:literal
                $(=> $limit:ident $noun:literal $activity:expr)?;)+
        }
        derived {
            $($derived:ident $derived_key:literal $derived_noun:literal $derived_activity:expr;)+
        }
    ) => {
        /// Capacities for one watched system ("Limits" in §7.3 of the guide of DOCA Argus).
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub struct Limits {
            $(#[doc = $help] pub $key: u32,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self::DEFAULT
            }
        }

        impl Limits {
            pub const DEFAULT: Self = Self { $($key: $default,)+ };

            /// The keys of the configuration.
            pub const SETTINGS: &'static [LimitSetting] = &[$(LimitSetting {
                key: stringify!($key),
                default: $default,
                range: $range,
                help: $help,
                field: |limits| &mut limits.$key,
            },)+];

            /// Limits that are enough for what either is enough for.
            #[must_use]
            pub fn largest(self, other: Self) -> Self {
                Self { $($key: self.$key.max(other.$key),)+ }
            }
        }

        /// A limited table.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Limit {
            $($(#[doc = concat!("The table of ", $noun, ".")] $limit,)?)+
            $(#[doc = concat!("The table of ", $derived_noun, ".")] $derived,)+
        }

        impl Limit {
            const COUNT: usize = [$($($noun,)?)+ $($derived_noun,)+].len();

            /// Every limit, in the order of the discriminants.
            pub const ALL: [Self; Self::COUNT] = [$($(Self::$limit,)?)+ $(Self::$derived,)+];

            /// The key in the configuration, and in records.
            pub const fn key(self) -> &'static str {
                match self {
                    $($(Self::$limit => stringify!($key),)?)+
                    $(Self::$derived => $derived_key,)+
                }
            }

            /// What the table holds.
            pub const fn noun(self) -> &'static str {
                match self {
                    $($(Self::$limit => $noun,)?)+
                    $(Self::$derived => $derived_noun,)+
                }
            }

            /// The activity that reports a full table.
            pub const fn activity(self) -> Activity {
                match self {
                    $($(Self::$limit => $activity,)?)+
                    $(Self::$derived => $derived_activity,)+
                }
            }
        }
    };
}

limits! {
    settings {
        // PID_MAX_LIMIT of a 64-bit kernel is 2^22; the others fit a machine of that size. They
        // keep a typing mistake of a few zeros from reserving all memory.
        processes = 4096 in 1..=4_194_304, "Processes"
            => Processes "processes" Activity::ProcessLimitReached;
        threads = 32_768 in 1..=4_194_304, "Threads of all processes"
            => Threads "threads" Activity::ThreadsLimitReached;
        file_descriptors = 131_072 in 1..=67_108_864, "Open file descriptors of all processes"
            => Descriptors "file descriptors" Activity::FileHandlesLimitReached;
        vmas = 262_144 in 1..=67_108_864, "Memory areas of all processes"
            => Areas "memory areas" Activity::ProcessMemoryLimitReached;
        connections = 32_768 in 1..=16_777_216, "Network connections"
            => Connections "connections" Activity::NetworkConnectionsLimitReached;
        containers = 1024 in 1..=1_048_576, "Containers"
            => Containers "containers" Activity::ContainersLimitReached;
        string_length = 1024 in 16..=16_384, "Bytes of a string in a record";
        // Further events are summed up (`policy::floods`).
        events_per_second = 1000 in 1..=1_000_000,
            "Events of one kind that one process may cause in a second, one record each";
    }
    derived {
        // Bytes of names. Their room follows from the other limits (`state::strings_bytes`).
        Strings "strings" "names and paths" Activity::ProcessLimitReached;
    }
}

impl Limits {
    /// Sets of limits by name, for machines with little memory, the smallest first. The last one is
    /// the default.
    pub const PRESETS: [(&'static str, Self); 3] =
        [("small", Self::SMALL), ("medium", Self::MEDIUM), ("default", Self::DEFAULT)];

    /// A machine of 512 MiB watches itself with them.
    const SMALL: Self = Self {
        processes: 512,
        threads: 2048,
        file_descriptors: 8192,
        vmas: 16_384,
        connections: 2048,
        containers: 64,
        ..Self::DEFAULT
    };

    /// A machine of 1 GiB watches itself, or a guest, with them.
    const MEDIUM: Self = Self {
        processes: 1024,
        threads: 8192,
        file_descriptors: 32_768,
        vmas: 65_536,
        connections: 8192,
        containers: 256,
        ..Self::DEFAULT
    };
}

/// One value for each limit, by its discriminant.
pub type PerLimit<T> = [T; Limit::ALL.len()];

impl Limits {
    /// Number of threads that one scan can read: more than are tracked, so that a scan finds all
    /// tracked threads, however many others exist. The kernel's maximum is 4 Mi (`PID_MAX_LIMIT`,
    /// include/linux/threads.h).
    pub fn threads_seen_max(&self) -> usize {
        (self.threads as usize * 2).clamp(65_536, 1 << 22)
    }

    /// Number of processes that one scan can read.
    pub fn processes_seen_max(&self) -> usize {
        (self.processes as usize * 2).clamp(32_768, 1 << 22)
    }

    /// Number of descriptors that one scan can read.
    pub fn file_descriptors_seen_max(&self) -> usize {
        (self.file_descriptors as usize).saturating_mul(5) / 4 + 1024
    }

    /// Number of memory areas that one scan can read.
    pub fn vmas_seen_max(&self) -> usize {
        (self.vmas as usize).saturating_mul(5) / 4 + 1024
    }

    /// Number of connections that one scan can read.
    pub fn connections_seen_max(&self) -> usize {
        (self.connections as usize).saturating_mul(5) / 4 + 1024
    }

    /// Number of containers that one scan can read: more than are tracked, so that processes in the
    /// other containers still name theirs.
    pub fn containers_seen_max(&self) -> usize {
        (self.containers as usize).saturating_mul(2).max(4096)
    }

    /// Number of distinct open files, inodes and names that one scan can read. Every descriptor can
    /// have one of each; most mapped files are shared.
    pub fn files_seen_max(&self) -> usize {
        self.file_descriptors_seen_max() + self.vmas_seen_max() / 4
    }

    /// Number of files whose contents are remembered: executables and libraries, most of which are
    /// shared.
    pub fn contents_max(&self) -> usize {
        (self.processes as usize * 2).clamp(256, 1 << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_its_own_field_and_a_default_in_its_range() {
        let mut limits = Limits::default();
        for setting in Limits::SETTINGS {
            let field = (setting.field)(&mut limits);
            assert_eq!(*field, setting.default, "{}", setting.key);
            assert!(setting.range.contains(field), "{}", setting.key);
            *field = 0;
        }
        let text = format!("{limits:?}");
        assert!(!text.contains(|letter: char| matches!(letter, '1'..='9')), "{text}");
    }

    #[test]
    fn the_largest_limits_are_enough_for_both() {
        let (one, other) = (Limits { vmas: 9, ..Limits::default() }, Limits::default());
        assert_eq!(one.largest(other), other);
        let more = Limits { vmas: one.vmas, threads: u32::MAX, ..other };
        let expected = Limits { threads: u32::MAX, ..other };
        assert_eq!(more.largest(other), expected);
        assert_eq!(other.largest(more), expected);
    }

    #[test]
    fn values_are_indexed_by_their_limit() {
        let names: PerLimit<&str> = Limit::ALL.map(Limit::noun);
        for limit in Limit::ALL {
            assert_eq!(names[limit as usize], limit.noun());
            let is_key = Limits::SETTINGS.iter().any(|setting| setting.key == limit.key());
            assert_eq!(is_key, limit != Limit::Strings, "{}", limit.key());
        }
    }
}
