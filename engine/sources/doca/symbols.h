/*
 * The functions of doca.h as a table of pointers, which bindgen makes a Rust struct: a symbol that
 * dlsym(3) finds then has the type of its declaration.
 */
#include "doca.h"

#define SYMBOL(name) __typeof__(&name) name

struct doca_symbols {
	SYMBOL(doca_version_runtime);
	SYMBOL(doca_error_get_name);
	SYMBOL(doca_error_get_descr);
	SYMBOL(doca_log_backend_create_with_fd_sdk);
	SYMBOL(doca_log_level_set_global_sdk_limit);
	SYMBOL(doca_devinfo_create_list);
	SYMBOL(doca_devinfo_destroy_list);
	SYMBOL(doca_devinfo_get_ibdev_name);
	SYMBOL(doca_devinfo_get_pci_addr_str);
	SYMBOL(doca_dev_open);
	SYMBOL(doca_dev_close);
	SYMBOL(doca_dev_as_devinfo);
	SYMBOL(doca_devinfo_rep_create_list);
	SYMBOL(doca_devinfo_rep_destroy_list);
	SYMBOL(doca_devinfo_rep_get_vuid);
	SYMBOL(doca_devinfo_rep_get_pci_addr_str);
	SYMBOL(doca_devinfo_rep_get_pci_func_type);
	SYMBOL(doca_dev_rep_open);
	SYMBOL(doca_dev_rep_close);
	SYMBOL(doca_mmap_create);
	SYMBOL(doca_mmap_destroy);
	SYMBOL(doca_mmap_start);
	SYMBOL(doca_mmap_add_dev);
	SYMBOL(doca_mmap_set_memrange);
	SYMBOL(doca_mmap_set_permissions);
	SYMBOL(doca_mmap_set_max_num_devices);
	SYMBOL(doca_buf_inventory_create);
	SYMBOL(doca_buf_inventory_destroy);
	SYMBOL(doca_buf_inventory_start);
	SYMBOL(doca_buf_inventory_buf_get_by_args);
	SYMBOL(doca_buf_dec_refcount);
	SYMBOL(doca_buf_get_data_len);
	SYMBOL(doca_buf_reset_data_len);
	SYMBOL(doca_ctx_start);
	SYMBOL(doca_ctx_stop);
	SYMBOL(doca_ctx_set_user_data);
	SYMBOL(doca_ctx_get_state);
	SYMBOL(doca_pe_create);
	SYMBOL(doca_pe_destroy);
	SYMBOL(doca_pe_connect_ctx);
	SYMBOL(doca_pe_progress);
	SYMBOL(doca_task_submit);
	SYMBOL(doca_task_free);
	SYMBOL(doca_task_get_status);
	SYMBOL(doca_dma_create);
	SYMBOL(doca_dma_destroy);
	SYMBOL(doca_dma_as_ctx);
	SYMBOL(doca_dma_cap_task_memcpy_is_supported);
	SYMBOL(doca_dma_cap_task_memcpy_get_max_buf_size);
	SYMBOL(doca_dma_cap_get_max_num_tasks);
	SYMBOL(doca_dma_task_memcpy_set_conf);
	SYMBOL(doca_dma_task_memcpy_alloc_init);
	SYMBOL(doca_dma_task_memcpy_as_task);
	SYMBOL(doca_dma_task_memcpy_set_src);
	SYMBOL(doca_devemu_pci_type_create);
	SYMBOL(doca_devemu_pci_type_destroy);
	SYMBOL(doca_devemu_pci_type_set_dev);
	SYMBOL(doca_devemu_pci_type_start);
	SYMBOL(doca_devemu_pci_type_stop);
	SYMBOL(doca_devemu_pci_dev_create);
	SYMBOL(doca_devemu_pci_dev_destroy);
	SYMBOL(doca_devemu_pci_dev_as_ctx);
	SYMBOL(doca_devemu_pci_mmap_create);
	SYMBOL(doca_devemu_pci_dev_as_ep);
	SYMBOL(doca_devemu_pci_ep_mmap_create);
};
