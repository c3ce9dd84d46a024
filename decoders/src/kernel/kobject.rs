//! `struct kset`, `struct module_kobject` and other structures around `struct kobject`
//! (include/linux/kobject.h): objects in sysfs.

crate::layout! {
    /// `struct kset` (include/linux/kobject.h): the objects of one directory.
    pub struct Kset("kset") {
        /// Head of their list.
        list: ["list"],
    }
}

crate::layout! {
    /// `struct module_kobject` (include/linux/module.h): a directory of /sys/module.
    pub struct ModuleKobject("module_kobject") {
        /// Link in the list of its set.
        entry: ["kobj.entry"],
        /// `struct module *`; null for code that is part of the kernel.
        module: ["mod"],
    }
}

crate::layout! {
    /// `struct bin_attribute` (include/linux/sysfs.h): a file of a directory.
    pub struct BinAttribute("bin_attribute") {
        /// A C string.
        name: ["attr.name"],
        private: ["private"],
    }
}

crate::layout! {
    /// `struct device` (include/linux/device.h).
    pub struct Device("device") {
        /// `struct device_driver *`
        driver: ["driver"],
    }
}

crate::layout! {
    /// `struct device_driver` (include/linux/device/driver.h).
    pub struct DeviceDriver("device_driver") {
        /// `struct module *`; null for a part of the kernel.
        owner: ["owner"],
    }
}
