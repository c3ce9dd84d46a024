//! Derives what no table names: the direct map, vmemmap, and the roots that `init_task` leads to.

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_decoders::layout::{Layout as _, Members, View};
use panoptes_decoders::paging::{KernelSpace, PageTableLevels};
use panoptes_decoders::source::MemorySource;

use crate::discovery::candidate::KernelCandidate;
use crate::discovery::vmemmap::{self, SlabFields};
use crate::discovery::{arm64, direct_map, image};
use crate::memory::KernelMemory;
use crate::object::read_object;
use crate::report::CandidateRefusal;
use crate::verify::{is_init_task, is_missing};

/// Determines how addresses translate, and adds the roots of the walk to the symbols.
pub(crate) fn space(
    memory: &mut KernelMemory<'_>,
    candidate: &mut KernelCandidate,
    layouts: &Layouts,
    members: &dyn Members,
) -> Result<KernelSpace, CandidateRefusal> {
    let named = candidate.symbols.init_task;
    let init_task = named
        .filter(|&at| is_init_task(memory, layouts, at))
        .or_else(|| image::find_init_task(memory, candidate, layouts))
        // A dump may lack it. Other views lead to the tasks then.
        .or_else(|| named.filter(|&at| is_missing(memory, &layouts.task_struct, at)))
        .ok_or(CandidateRefusal::NoInitTask)?;
    candidate.symbols.init_task = Some(init_task);
    let none = || vec![0; layouts.task_struct.packing().bytes() as usize];
    let bytes = read_object(memory, &layouts.task_struct, init_task).unwrap_or_else(|_| none());
    let task = Task::decode(&layouts.task_struct, init_task, &bytes);
    reach_roots(memory, candidate, layouts, &task);
    let objects = direct_map::slab_objects(memory, candidate, layouts, &task);
    let base =
        direct_map::base(memory, candidate, &objects).ok_or(CandidateRefusal::NoDirectMap)?;
    let top = memory.source().regions().iter().map(|region| region.end).max().unwrap_or(0);
    let (range, physical) = match candidate.levels {
        PageTableLevels::X86_64(_) => (base..base.saturating_add(top), PhysicalAddress(0)),
        PageTableLevels::Aarch64(_) => {
            arm64::direct_map(memory.source().regions(), base, &candidate.image)
                .ok_or(CandidateRefusal::NoDirectMap)?
        }
    };
    memory.assume(range.clone(), physical);
    let mut space = KernelSpace {
        levels: candidate.levels,
        root: candidate.root,
        direct_map: range,
        direct_map_physical: physical,
        image: candidate.image.clone(),
        image_physical: candidate.image_physical,
        vmemmap_base: 0,
    };
    let fields = SlabFields::bind(members);
    let object = objects.iter().find(|&&object| memory.translate(object).is_ok());
    let object = object.copied().unwrap_or_default();
    space.vmemmap_base = vmemmap::base(memory, candidate, &space, fields, object);
    Ok(space)
}

/// Adds the initial namespaces and the TCP hash table: `init_task` is in the initial namespaces and
/// leads to them.
fn reach_roots(
    memory: &mut KernelMemory<'_>,
    candidate: &mut KernelCandidate,
    layouts: &Layouts,
    init_task: &Task,
) {
    let symbols = &mut candidate.symbols;
    if symbols.init_pid_ns.is_none() {
        // numbers[0] is always in the initial namespace (kernel/pid.c).
        let ns = u64::from(layouts.pid.numbers.offset) + u64::from(layouts.upid.ns.offset);
        symbols.init_pid_ns = read_plausible(memory, init_task.thread_pid.plus(ns));
    }
    if (symbols.init_net.is_none() || symbols.init_uts_ns.is_none())
        && let Ok(bytes) = read_object(memory, &layouts.nsproxy, init_task.nsproxy)
    {
        let nsproxy = View::new(&bytes);
        let plausible = |at: KernelVa| at.is_plausible().then_some(at);
        let net_ns = plausible(nsproxy.pointer(layouts.nsproxy.net_ns));
        let uts_ns = plausible(nsproxy.pointer(layouts.nsproxy.uts_ns));
        symbols.init_net = symbols.init_net.or(net_ns);
        symbols.init_uts_ns = symbols.init_uts_ns.or(uts_ns);
    }
    if symbols.tcp_hashinfo.is_none()
        && let Some(net) = symbols.init_net
    {
        let at = net.plus(u64::from(layouts.net.hashinfo.offset));
        symbols.tcp_hashinfo = read_plausible(memory, at);
    }
}

fn read_plausible(memory: &mut KernelMemory<'_>, at: KernelVa) -> Option<KernelVa> {
    memory.read_pointer(at).ok().filter(|pointer| pointer.is_plausible())
}
