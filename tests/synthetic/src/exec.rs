//! Exec: a process gets a new address space, name and arguments (`begin_new_exec`, fs/exec.c).

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::task_struct::PF_FORKNOEXEC;
use panoptes_decoders::kernel::vm_area_struct::{VM_EXEC, VM_READ};
use panoptes_decoders::source::PAGE_BYTES;

use crate::areas::{Area, program_areas};
use crate::machine::Machine;

/// `MM_CONTEXT_HAS_VSYSCALL` (arch/x86/include/asm/mmu.h).
const HAS_VSYSCALL: u64 = 2;

impl Machine {
    /// Executes a program with arguments; the first argument is its name. Other threads end first.
    pub fn exec(&mut self, pid: u32, path: &str, arguments: &[&str]) {
        for tid in self.process(pid).threads.clone().into_iter().skip(1) {
            self.exit_thread(tid);
        }
        let node = self.file_at(path);
        let file = self.new_file(node, KernelVa::NULL);
        let slide = self.random.below(1 << 12) * PAGE_BYTES;
        let areas = program_areas(path, slide);
        let mm = self.new_stack(file, &areas);
        let layout = self.layouts().task_struct;
        let task = self.process(pid).task;
        self.memory.point_pair(task, layout.mm, mm);
        if let Some(old) = self.process_mut(pid).mm.replace(mm) {
            self.drop_mm(old);
        }
        let flags = self.memory.get(task, layout.flags);
        self.memory.put(task, layout.flags, flags & !u64::from(PF_FORKNOEXEC));
        self.close_on_exec(pid);
        self.set_name(pid, path.rsplit('/').next().unwrap_or(path));
        let executions = self.memory.get(task, layout.self_exec_id);
        self.memory.put(task, layout.self_exec_id, executions + 1);
        self.map_program(mm, path, file, &areas);
        self.write_arguments(mm, areas.last().map_or(0, |area| area.end), path, arguments);
        self.drop_file(file);
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self.process_mut(pid).arguments = arguments;
    }

    /// The address space of a program before it is loaded: its stack, the last of its areas.
    fn new_stack(&mut self, file: KernelVa, areas: &[Area]) -> KernelVa {
        let mm = self.new_mm();
        self.set_exe(mm, file);
        if let Some(stack) = areas.last() {
            self.add_area(mm, stack, None);
        }
        self.store_areas(mm);
        mm
    }

    /// Loads a program (`load_elf_binary`, fs/binfmt_elf.c).
    fn map_program(&mut self, mm: KernelVa, path: &str, file: KernelVa, areas: &[Area]) {
        let layout = self.layouts().mm_struct;
        let library = self.file_at("/usr/lib/x86_64-linux-gnu/libc.so.6");
        let library = self.new_file(library, KernelVa::NULL);
        for area in &areas[..areas.len() - 1] {
            let mapped = area.path.as_ref().map(|name| if name == path { file } else { library });
            self.add_area(mm, area, mapped);
        }
        self.drop_file(library);
        let vdso = vdso(areas);
        let special = self.vdso_mapping();
        self.add_special(mm, &vdso, special);
        self.store_areas(mm);
        let heap = areas.iter().find(|area| area.path.is_none()).map(|area| (area.start, area.end));
        let (heap, heap_end) = heap.unwrap_or_default();
        self.memory.put(mm, layout.start_brk, heap);
        self.memory.put(mm, layout.brk, heap_end);
        if heap != 0 && self.has_heap_pages {
            self.fill_heap_page(mm, heap);
        }
        self.memory.put_optional(mm, layout.vdso, vdso.start);
        self.memory.put_optional(mm, layout.context_flags, HAS_VSYSCALL);
    }

    /// The arguments and the environment at the top of the stack.
    fn write_arguments(&mut self, mm: KernelVa, stack: u64, path: &str, arguments: &[&str]) {
        let layout = self.layouts().mm_struct;
        let mut text = Vec::new();
        for argument in arguments {
            text.extend(argument.as_bytes());
            text.push(0);
        }
        let arguments = text.len() as u64;
        text.extend(format!("PATH=/usr/bin:/bin\0_={path}\0").as_bytes());
        let environment = text.len() as u64;
        assert!(text.len() < PAGE_BYTES as usize, "the arguments fit a page");
        let page = stack - PAGE_BYTES;
        let start = stack - 8 - environment;
        let mut bytes = vec![0; PAGE_BYTES as usize];
        let at = (start - page) as usize;
        bytes[at..at + text.len()].copy_from_slice(&text);
        self.write_stack_page(mm, page, &bytes);
        for (field, value) in [
            (layout.arg_start, start),
            (layout.env_start, start + arguments),
            (layout.env_end, start + environment),
            (layout.start_stack, start - 64),
            (layout.arg_end, start + arguments),
        ] {
            self.memory.put(mm, field, value);
        }
    }

    /// `vdso_mapping` (arch/x86/entry/vdso/vma.c).
    fn vdso_mapping(&mut self) -> KernelVa {
        if !self.vdso_mapping.is_null() {
            return self.vdso_mapping;
        }
        let layout = self.layouts().vm_special_mapping;
        let at = self.memory.allocate(layout.size);
        let name = self.memory.allocate(128);
        self.memory.write(name, b"[vdso]");
        self.memory.point(at, layout.name, name);
        self.vdso_mapping = at;
        at
    }

    fn close_on_exec(&mut self, pid: u32) {
        let files = self.files_of(pid);
        let open = self.tables[&files].open.clone();
        for (descriptor, (_, closes)) in open {
            if closes {
                self.close(pid, descriptor);
            }
        }
    }
}

/// The area of the vDSO, above the stack.
fn vdso(areas: &[Area]) -> Area {
    let start = areas.last().map_or(0, |stack| stack.end + 0x1_0000);
    let flags = VM_READ | VM_EXEC;
    let end = start + 2 * PAGE_BYTES;
    Area { start, end, flags, path: None, page_offset: 0 }
}
