//! A configuration of DOCA Argus.

use super::check;

#[test]
fn a_configuration_of_doca_argus_is_refused_key_by_key() {
    check(
        "apsh_config:\n\
         \x20 auto_scan: true\n\
         \x20 systems:\n\
         \x20   web: {dma_device_name: mlx5_0, representor_id: MT2333VF1}\n\
         systems:\n\
         \x20 db: {dma_device_name: mlx5_0, representor_id: MT2333VF2}\n\
         output:\n\
         \x20 log_threshold_size: 50M\n\
         \x20 log_max_files_count: 10\n",
        &[
            "1:1: `apsh_config` is a key of DOCA Argus; remove it, and write what is in it one \
             level higher",
            "4:11: `dma_device_name` is a key of DOCA Argus; write `dma_device`",
            "6:8: `dma_device_name` in `systems.db` is a key of DOCA Argus; write `dma_device`",
            "6:49: `representor_id` and `dma_device` belong together; give both",
            "8:3: `log_threshold_size` in `output` is a key of DOCA Argus; write \
             `output.rotate_size`",
            "9:3: `log_max_files_count` in `output` is a key of DOCA Argus; write \
             `output.max_files`",
        ],
    );
}
