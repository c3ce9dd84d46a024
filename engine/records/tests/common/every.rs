//! A record of every activity, with strings and numbers that a test chooses.

use panoptes_records::activities::Activity;
use panoptes_records::dialect::Dialect;
use panoptes_records::json::command_line::CommandLine;
use panoptes_records::json::text::Text;
use panoptes_records::json::time::Timestamp;
use panoptes_records::record::container::ContainerDetails;
use panoptes_records::record::ebpf_object::EbpfHelper;
use panoptes_records::record::ebpf_program::{EbpfProgramDetails, EbpfProgramView};
use panoptes_records::record::elf_file::ElfFileDetails;
use panoptes_records::record::file::FileDetails;
use panoptes_records::record::file_descriptor::FileDescriptorDetails;
use panoptes_records::record::kernel_code::{KernelCodeDetails, KernelCodeOwner, KernelListing};
use panoptes_records::record::kernel_module::{
    KernelModuleAttribute, KernelModuleDetails, KernelModuleSection, KernelModuleSignature,
    KernelModuleState, KernelModuleView,
};
use panoptes_records::record::network_connection::{Holder, NetworkConnectionDetails};
use panoptes_records::record::package::{PackageDetails, PackageFile};
use panoptes_records::record::process::ProcessDetails;
use panoptes_records::record::process_executed::{MappedFileDetails, ProcessExecutedDetails};
use panoptes_records::record::process_memory::ProcessMemoryDetails;
use panoptes_records::record::reverse_shell::{ReverseShellDetails, ShellProcess};
use panoptes_records::record::shell_history::{ShellCommand, ShellHistoryDetails};
use panoptes_records::record::system_activity::SystemActivityDetails;
use panoptes_records::record::thread::ThreadDetails;
use panoptes_records::record::value::{
    DeviceNumber, Flat, Hash, Hex, MemoryAddress, Objects, Permissions, WrappedObjects,
};
use panoptes_records::record::workload::ContainerContext;
use panoptes_records::record::{Details, DetailsKind, Record};

use crate::common::{bash, connection, detection, stdin_socket};

/// Strings and numbers for every field of every details object.
#[derive(Clone, Debug)]
pub(crate) struct Filling {
    pub(crate) bytes: Vec<u8>,
    pub(crate) more: Vec<u8>,
    pub(crate) number: u64,
    pub(crate) ids: Vec<u32>,
}

impl Filling {
    pub(crate) fn process(&self) -> ProcessDetails<'_> {
        ProcessDetails {
            process_name: Text::new(&self.bytes),
            process_hash_sha256: Some(Hash([7; 32])),
            process_hash_sha1: Some(Hash([7; 20])),
            process_hash_md5: Some(Hash([7; 16])),
            process_executable_path: Some(Text::new(&self.more)),
            process_command_line_arguments: Some(CommandLine::new(&self.bytes)),
            process_creation_time_iso_8601_ns: Some(Timestamp::from_ns(self.number as i64)),
            process_cpu_clock_cycles: Some(self.number),
            process_container_id: Some(Text::cut(&self.bytes)),
            ..bash()
        }
    }

    pub(crate) fn descriptor(&self) -> FileDescriptorDetails<'_> {
        FileDescriptorDetails {
            file_descriptor_name: Some(Text::new(&self.more)),
            file_descriptor_previous_name: Some(Text::new(&self.more)),
            file_descriptor_inode_number: Some(self.number),
            file_descriptor_inode_device_identifier: Some(DeviceNumber { major: 259, minor: 1 }),
            file_descriptor_inode_permissions: Some(Permissions(self.number as u16)),
            file_descriptor_thread_id_array: Some(&self.ids),
            file_descriptor_inode_access_time_iso_8601_ns: Timestamp::new(self.number as i64, 5),
            file_descriptor_inode_modify_time_iso_8601_ns: Timestamp::new(self.number as i64, 6),
            file_descriptor_inode_change_time_iso_8601_ns: Timestamp::new(self.number as i64, 7),
            file_descriptor_inode_hash_sha256: Some(Hash([8; 32])),
            file_descriptor_inode_hash_sha1: Some(Hash([8; 20])),
            file_descriptor_inode_hash_md5: Some(Hash([8; 16])),
            ..stdin_socket()
        }
    }
}

/// Calls `check` with a record of every activity, as a dialect has them, each with every optional
/// part of its kind.
pub(crate) fn each_activity(
    filling: &Filling,
    dialect: Dialect,
    mut check: impl FnMut(&Record<'_>),
) {
    let (process, descriptor) = (filling.process(), filling.descriptor());
    let text = Text::new(&filling.bytes);
    let holders: Vec<_> = filling
        .ids
        .iter()
        .map(|&id| Holder { process_id: id, file_descriptor_id: Some(3) })
        .collect();
    let connection = NetworkConnectionDetails {
        tcp_bytes_in: Some(filling.number),
        tcp_connection_termination_time_iso_8601_ns: Some(Timestamp::from_ns(9)),
        tcp_connection_overall_duration_ns: Some(filling.number),
        other_holders: Some(Objects::new(&holders)),
        ..connection()
    };
    let memory = ProcessMemoryDetails {
        virtual_memory_area_end_address: MemoryAddress(filling.number),
        file_path: Some(text),
        memory_name: Some(text),
        ..ProcessMemoryDetails::default()
    };
    let elf = ElfFileDetails {
        elf_file_path: Some(text),
        elf_file_hash_sha256: Some(Hash([0xa5; 32])),
        elf_file_hash_sha1: Some(Hash([0xa5; 20])),
        elf_file_hash_md5: Some(Hash([0xa5; 16])),
        ..ElfFileDetails::default()
    };
    let container = ContainerDetails {
        container_id: text,
        container_runtime: Some(text),
        ..ContainerDetails::default()
    };
    let commands = vec![
        ShellCommand {
            command_line: filling.bytes.as_slice().into(),
            command_execution_time_iso_8601_ns: Some(Timestamp::from_ns(0)),
        };
        20
    ];
    let history = ShellHistoryDetails { shell_command_execution_history: Objects::new(&commands) };
    let files = vec![PackageFile { file_path: text }; 128];
    let package = PackageDetails {
        package_program: Some(text),
        package_file_count: filling.number,
        package_files: Objects::new(&files),
    };
    let file = FileDetails {
        file_path: text,
        file_previous_path: Some(text),
        file_inode_number: Some(filling.number),
        file_inode_device_identifier: Some(DeviceNumber { major: 259, minor: 1 }),
        file_inode_permissions: Some(Permissions(filling.number as u16)),
        file_inode_uid: Some(filling.number as u32),
        file_inode_gid: Some(filling.number as u32),
        file_inode_size_bytes: Some(filling.number),
        file_inode_change_time_iso_8601_ns: Timestamp::new(filling.number as i64, 5),
        file_inode_modify_time_iso_8601_ns: Timestamp::new(filling.number as i64, 6),
        file_inode_access_time_iso_8601_ns: Timestamp::new(filling.number as i64, 7),
        file_inode_hash_sha256: Some(Hash([0xa5; 32])),
        file_inode_hash_sha1: Some(Hash([0xa5; 20])),
        file_inode_hash_md5: Some(Hash([0xa5; 16])),
        file_previous_inode_size_bytes: Some(filling.number),
        file_previous_inode_permissions: Some(Permissions(0o755)),
        file_previous_inode_uid: Some(1000),
        file_previous_inode_gid: Some(1000),
        ..FileDetails::default()
    };
    let mapped = MappedFileDetails { file_path: Some(text), ..MappedFileDetails::default() };
    let mapped = vec![mapped; 64];
    let executed = ProcessExecutedDetails {
        process_previous_executable_path: Some(text),
        process_mapped_files: Some(Objects::cut_if(&mapped, true)),
        process_mapped_files_count: Some(filling.number),
    };
    let (descriptors, connections) = ([descriptor; 3], [connection; 2]);
    let chain = [ShellProcess {
        process: Flat(process),
        file_descriptor_list: WrappedObjects::new(&descriptors),
        network_connection_list: WrappedObjects::new(&connections),
    }; 4];
    let shell = ReverseShellDetails { process_list: WrappedObjects::new(&chain) };
    let system = SystemActivityDetails {
        reason: text,
        limit: Some("vmas"),
        dropped: Some(filling.number),
        ..SystemActivityDetails::default()
    };
    let thread = ThreadDetails { thread_id: 1, ..ThreadDetails::default() };
    let names = vec![text; 16];
    let section = KernelModuleSection { section_name: text, ..KernelModuleSection::default() };
    let sections = vec![section; 16];
    let module = kernel_module(text, filling.number, &names, &sections);
    let code = kernel_code(text, filling.number);
    let program = ebpf_program(text, filling.number);
    let details = |kind| match kind {
        DetailsKind::Process => Details::Process(&process),
        DetailsKind::Thread => Details::Thread(&thread),
        DetailsKind::FileDescriptor => Details::FileDescriptor(&descriptor),
        DetailsKind::NetworkConnection => Details::NetworkConnection(&connection),
        DetailsKind::ProcessMemory => Details::ProcessMemory(&memory),
        DetailsKind::ElfFile => Details::ElfFile(&elf),
        DetailsKind::Container => Details::Container(&container),
        DetailsKind::ShellHistory => Details::ShellHistory(&history),
        DetailsKind::ReverseShell => Details::ReverseShell(&shell),
        DetailsKind::ProcessExecuted => Details::ProcessExecuted(&executed),
        DetailsKind::File => Details::File(&file),
        DetailsKind::Package => Details::Package(&package),
        DetailsKind::SystemActivity => Details::SystemActivity(&system),
        DetailsKind::KernelModule => Details::KernelModule(&module),
        DetailsKind::KernelCode => Details::KernelCode(&code),
        DetailsKind::EbpfProgram => Details::EbpfProgram(&program),
    };
    let pod = ContainerContext {
        container_id: Some(text),
        container_name: Some(text),
        container_image_name: Some(text),
        container_image_digest: Some(text),
        pod_name: Some(text),
        ..ContainerContext::default()
    };
    let detection = detection(filling.bytes.as_slice().into());
    for &activity in Activity::ALL {
        let parents = activity.info().parents_in(dialect).iter();
        let parents: Vec<_> = parents.map(|&kind| details(kind)).collect();
        check(&Record {
            container: Some(&pod),
            detection: Some(&detection),
            ..Record::new(activity, details(activity.info().own)).with_parents(&parents)
        });
    }
}

/// A kernel module that has everything.
fn kernel_module<'a>(
    text: Text<'a>,
    number: u64,
    names: &'a [Text<'a>],
    sections: &'a [KernelModuleSection<'a>],
) -> KernelModuleDetails<'a> {
    KernelModuleDetails {
        kernel_module_name: text,
        kernel_module_size: number,
        kernel_module_state: Some(KernelModuleState::Loading),
        kernel_module_reference_count: Some(number as u32),
        kernel_module_holders: Some(names),
        kernel_module_taints: Some("OE".into()),
        kernel_module_version: Some(text),
        kernel_module_source_version: Some(text),
        kernel_module_build_id: Some(Hex(&[0xa5; 20])),
        kernel_module_signature: Some(KernelModuleSignature::Unverified),
        kernel_module_address: Some(MemoryAddress(number)),
        kernel_module_sections: Some(Objects::new(sections)),
        kernel_module_views: Some(KernelModuleView::ALL),
        kernel_module_missing_views: Some(KernelModuleView::ALL),
        kernel_module_changed: Some(KernelModuleAttribute::ALL),
        kernel_module_previous_name: Some(text),
        kernel_module_previous_taints: Some(text),
        kernel_module_previous_source_version: Some(text),
    }
}

/// A violation that has everything.
fn kernel_code(text: Text<'_>, number: u64) -> KernelCodeDetails<'_> {
    KernelCodeDetails {
        kernel_code_check: "ftrace_handlers",
        kernel_code_address: MemoryAddress(number),
        kernel_code_symbol: Some(text),
        kernel_code_label: Some(text),
        kernel_code_function: Some(text),
        kernel_code_function_address: Some(MemoryAddress(number)),
        kernel_code_listing: Some(KernelListing::Files),
        kernel_code_target: Some(MemoryAddress(number)),
        kernel_code_target_symbol: Some(text),
        kernel_code_owner: Some(KernelCodeOwner::Module),
        kernel_module_name: Some(text),
        kernel_code_bytes_before: Some(Hex(&[0xe8; 16])),
        kernel_code_bytes_after: Some(Hex(&[0xe9; 16])),
        kernel_code_first_seen: Some(Timestamp::from_ns(number as i64)),
        kernel_code_advice: Some("Take a dump of the machine."),
    }
}

/// A program of eBPF that has everything.
fn ebpf_program(text: Text<'_>, number: u64) -> EbpfProgramDetails<'_> {
    EbpfProgramDetails {
        ebpf_program_id: number as u32,
        ebpf_program_type: Some("kprobe".into()),
        ebpf_program_name: Some(text),
        ebpf_program_tag: Some(Hex(&[0xa5; 8])),
        ebpf_program_size: Some(number as u32),
        ebpf_program_image_address: Some(MemoryAddress(number)),
        ebpf_program_loaded_time_iso_8601_ns: Some(Timestamp::from_ns(number as i64)),
        ebpf_program_user_id: Some(number as u32),
        ebpf_program_helpers: Some(EbpfHelper::ALL),
        ebpf_program_attach_type: Some("trace_kprobe_multi".into()),
        ebpf_program_attach_target: Some(text),
        ebpf_program_link_id: Some(number as u32),
        ebpf_program_pinned_path: Some(text),
        ebpf_program_views: Some(EbpfProgramView::ALL),
    }
}
