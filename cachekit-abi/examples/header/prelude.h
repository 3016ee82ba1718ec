// Marks the one function that a plugin exports. Build everything else with `-fvisibility=hidden`.
#if defined(__cplusplus)
#define CK_EXPORT extern "C" __attribute__((visibility("default")))
#else
#define CK_EXPORT __attribute__((visibility("default")))
#endif

#define CK_TEXT_OF(x) #x
#define CK_TEXT(x) CK_TEXT_OF(x)

// The identity of a library as an ELF note, readable without loading the library. Stands once, outside of any function:
//
//     CK_PLUGIN_NOTE("acme.store", "1.2.3");
//
// `id` (for operators: vendor.store) and `version` are string literals without quotes and backslashes in them. The entry
// function is then called `cachekit_plugin_v1`.
#define CK_PLUGIN_NOTE(id, version) \
    CK_PLUGIN_NOTE_OF(id, version, CK_TEXT(CK_ABI_MAJOR) "." CK_TEXT(CK_ABI_MINOR), "unwind", CK_ENTRY)

// The same with every field. `panic` is "unwind" unless an exception or a failed assertion ends the process ("abort").
#define CK_PLUGIN_NOTE_OF(id, version, abi, panic, entry) \
    CK_PLUGIN_NOTE_JSON("{\\\"id\\\":\\\"" id "\\\",\\\"version\\\":\\\"" version "\\\",\\\"abi\\\":\\\"" abi \
                        "\\\",\\\"panic\\\":\\\"" panic "\\\",\\\"entry\\\":\\\"" entry "\\\"}")

// The note around a text that is already escaped for the assembler. It is assembler because C cannot give a section the
// type `note`; `%` instead of `@` because the latter begins a comment on ARM. The text is padded with spaces, which JSON
// allows, to a multiple of four.
#define CK_PLUGIN_NOTE_JSON(text) \
    __asm__(".pushsection .note.cachekit,\"a\",%note\n" \
            ".balign 4\n" \
            ".4byte 9\n" \
            ".4byte 2f-1f\n" \
            ".4byte " CK_TEXT(CK_NOTE_TYPE) "\n" \
            ".asciz \"" CK_NOTE_OWNER "\"\n" \
            ".balign 4\n" \
            "1:\n" \
            ".ascii \"" text "\"\n" \
            ".balign 4, 0x20\n" \
            "2:\n" \
            ".popsection\n")
