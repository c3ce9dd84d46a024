//! `struct dma_buf` (include/linux/dma-buf.h): a buffer that devices share.

crate::layout! {
    /// `struct dma_buf` (include/linux/dma-buf.h).
    pub struct DmaBuf("dma_buf") {
        /// A C string that a user process set; null until then.
        name: ["name"],
    }
}
