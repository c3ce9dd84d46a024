//! `struct dma_buf` (include/linux/dma-buf.h): memory that devices share.

crate::layout! {
    /// `struct dma_buf` (include/linux/dma-buf.h).
    pub struct DmaBuf("dma_buf") {
        /// A C string that a user gave it; null until then.
        name: ["name"],
    }
}
