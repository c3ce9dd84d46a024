//! Programs, maps and links that files of a bpffs hold.

use super::*;

impl BpfScene {
    /// The root of a bpffs.
    fn add_bpffs(&mut self) -> u64 {
        let [filesystem, super_block] = [0; 2].map(|_| self.memory.structure());
        self.kernel.symbols.bpf_fs_type = Some(va(filesystem));
        let root = self.memory.structure();
        let link = Sparse::field(super_block, "super_block", "s_instances");
        self.memory.put(Sparse::field(filesystem, "file_system_type", "fs_supers"), link);
        self.memory.set(super_block, "super_block", "s_root", root);
        self.memory.set(root, "dentry", "d_parent", root);
        root
    }

    /// Adds a name as the first one of its directory. A file leads to an object.
    fn add_name(&mut self, directory: u64, name: &str, object: u64) -> u64 {
        let [dentry, inode] = [0; 2].map(|_| self.memory.structure());
        let memory = &mut self.memory;
        memory.set(dentry, "dentry", "d_parent", directory);
        memory.set(dentry, "dentry", "d_hash.pprev", directory);
        memory.set(dentry, "dentry", "d_name.len", name.len() as u64);
        memory.set(dentry, "dentry", "d_inode", inode);
        memory.set(inode, "inode", "i_private", object);
        let text = if name.len() < 40 {
            Sparse::field(dentry, "dentry", "d_iname")
        } else {
            memory.room(256)
        };
        memory.set(dentry, "dentry", "d_name.name", text);
        for (place, word) in name.as_bytes().chunks(8).enumerate() {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            memory.put(text + 8 * place as u64, u64::from_le_bytes(bytes));
        }
        let first = Sparse::field(directory, "dentry", "d_children.first");
        let next = memory.get(first);
        memory.put(Sparse::field(dentry, "dentry", "d_sib.next"), next);
        memory.put(first, Sparse::field(dentry, "dentry", "d_sib.next"));
        dentry
    }

    /// The paths of a read, sorted.
    fn paths(&mut self) -> Vec<String> {
        let pins = &self.read().pins;
        let mut paths: Vec<_> = pins.iter().map(|pin| pin.path.as_str().to_owned()).collect();
        paths.sort();
        paths
    }
}

#[test]
fn a_file_of_bpffs_has_its_path_and_its_object() {
    let mut scene = BpfScene::new(2);
    let program = scene.programs[1];
    let root = scene.add_bpffs();
    assert_eq!(scene.paths(), [""; 0]);
    let long = "a_name_that_finds_no_room_in_the_dentry_itself";
    let folder = scene.add_name(root, "systemd", 0);
    scene.add_name(folder, "restrict_fs", program);
    let map = scene.memory.structure();
    scene.fill(1, &[map]);
    scene.add_name(root, long, map);
    let expected = [format!("/{long}"), "/systemd/restrict_fs".to_owned()];
    assert_eq!(scene.paths(), expected);
    let scan = scene.read();
    assert_eq!(scan.pinned_path(va(program)), Some("/systemd/restrict_fs"));
    assert_eq!(scan.pinned_path(va(map)), Some(&*expected[0]));
    assert_eq!(scan.pinned_path(va(map + 8)), None);
    assert_eq!(views(scan), [(1, BOTH), (2, BOTH | bpf_view::PIN)]);
    assert_eq!((scan.complete & bpf_view::PIN, scan.stopped), (bpf_view::PIN, 0));
    assert_eq!(scene.losses(), (0, 0));
}

#[test]
fn a_program_that_only_a_file_holds_has_a_row() {
    let mut scene = BpfScene::new(2);
    let all = scene.programs.clone();
    scene.list(&all[..1]);
    scene.show(&all[..1]);
    let root = scene.add_bpffs();
    scene.add_name(root, "hidden", all[1]);
    // Neither is a program.
    let other = scene.memory.structure();
    scene.add_name(root, "other", other);
    assert_eq!(views(scene.read()), [(1, BOTH), (2, bpf_view::PIN)]);
    assert_eq!(scene.losses(), (0, 0));
}

#[test]
fn a_directory_that_never_ends_makes_the_view_incomplete() {
    let mut scene = BpfScene::new(1);
    let root = scene.add_bpffs();
    let name = scene.add_name(root, "ring", 0);
    let link = Sparse::field(name, "dentry", "d_sib.next");
    scene.memory.put(link, link);
    let scan = scene.read();
    assert_eq!((scan.complete & bpf_view::PIN, scan.stopped), (0, bpf_view::PIN));
}

#[test]
fn known_names_cost_one_batch() {
    let mut scene = BpfScene::new(1);
    let root = scene.add_bpffs();
    for number in 0..20 {
        scene.add_name(root, &format!("name {number}"), 0);
    }
    let batches = |scene: &mut BpfScene| {
        let before = scene.memory.batches;
        scene.read();
        scene.memory.batches - before
    };
    let first = batches(&mut scene);
    assert!(batches(&mut scene) + 15 < first);
}
