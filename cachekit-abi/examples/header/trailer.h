// Short forms. None of them is part of the contract; all are inline, so nothing is exported.

// Borrows `len` bytes.
static inline CkSlice ck_slice(const void *ptr, size_t len)
{
    CkSlice slice;
    slice.ptr = (const uint8_t *)ptr;
    slice.len = len;
    return slice;
}

// Borrows a text with a terminating zero, without the zero.
static inline CkSlice ck_str(const char *text)
{
    return ck_slice(text, strlen(text));
}

// Whether two slices hold the same bytes.
static inline int ck_same(CkSlice a, CkSlice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

// Whether the id that `query` was asked for is `id`.
static inline int ck_id_is(const uint8_t *ptr, size_t len, const char *id)
{
    return ck_same(ck_slice(ptr, len), ck_str(id));
}

// No bytes.
static inline CkBuf ck_buf_empty(void)
{
    CkBuf buf;
    memset(&buf, 0, sizeof buf);
    return buf;
}

// Bytes that live as long as the library: there is nothing to release.
static inline CkBuf ck_buf_static(const void *ptr, size_t len)
{
    CkBuf buf = ck_buf_empty();
    buf.ptr = (const uint8_t *)ptr;
    buf.len = len;
    return buf;
}

static inline void ck_buf_free(void *owner, const uint8_t *ptr, size_t len)
{
    (void)ptr;
    (void)len;
    free(owner);
}

// Gives away bytes that came from `malloc`; `free` ends them.
static inline CkBuf ck_buf_malloc(void *ptr, size_t len)
{
    CkBuf buf = ck_buf_static(ptr, len);
    buf.owner = ptr;
    buf.release = ck_buf_free;
    return buf;
}

// Takes a buffer out of the record it stands in and leaves zeros, which is how the contract says "taken".
static inline CkBuf ck_buf_take(CkBuf *buf)
{
    CkBuf taken = *buf;
    *buf = ck_buf_empty();
    return taken;
}

// Ends the ownership of a buffer and leaves zeros.
static inline void ck_buf_release(CkBuf *buf)
{
    CkBuf taken = ck_buf_take(buf);
    if (taken.release != NULL)
        taken.release(taken.owner, taken.ptr, taken.len);
}

// Fills `err` (if there is one) with a status and a text that lives as long as the library, and returns the status.
static inline int32_t ck_fail(CkError *err, int32_t status, const char *text)
{
    if (err != NULL) {
        memset(err, 0, sizeof *err);
        err->code = status;
        err->msg = ck_buf_static(text, strlen(text));
    }
    return status;
}
