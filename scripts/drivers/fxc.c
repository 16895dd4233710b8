// Gives HLSL files to Microsoft's compiler: fxc.exe < LIST, where each line of LIST is "file<TAB>entry point".
// Prints a line for each: "ok" or "refused", seconds, bytes, file, and what the compiler said below it when it refuses.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

// ID3DBlob, without the headers that C compilers for Windows may lack.
typedef struct Blob Blob;
struct BlobFunctions {
    HRESULT(WINAPI *query)(Blob *, void *, void **);
    ULONG(WINAPI *retain)(Blob *);
    ULONG(WINAPI *release)(Blob *);
    void *(WINAPI *pointer)(Blob *);
    SIZE_T(WINAPI *size)(Blob *);
};
struct Blob {
    const struct BlobFunctions *functions;
};
typedef HRESULT(WINAPI *Compile)(const void *, SIZE_T, const char *, const void *, void *, const char *, const char *, UINT, UINT,
                                 Blob **, Blob **);
// Errors are errors, and the optimisation that wgpu leaves at its default.
enum { STRICTNESS = 1 << 11 };

static char *contents(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *text = malloc(*size + 1);
    if (text && fread(text, 1, *size, file) != *size) text = NULL;
    fclose(file);
    return text;
}

int main(void) {
    HMODULE library = LoadLibraryA("d3dcompiler_47.dll");
    Compile compile = library ? (Compile)(void *)GetProcAddress(library, "D3DCompile") : NULL;
    if (!compile) {
        puts("there is no d3dcompiler_47.dll");
        return 2;
    }
    char line[4096];
    int refused = 0;
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\r\n")] = 0;
        char *entry = strchr(line, '\t');
        if (!entry) continue;
        *entry++ = 0;
        size_t size = 0;
        char *text = contents(line, &size);
        if (!text) {
            printf("refused 0.0 0 %s\nthe file cannot be read\n", line);
            refused++;
            continue;
        }
        Blob *code = NULL, *messages = NULL;
        DWORD begun = GetTickCount();
        HRESULT result = compile(text, size, line, NULL, NULL, entry, "cs_5_1", STRICTNESS, 0, &code, &messages);
        double seconds = (GetTickCount() - begun) / 1000.0;
        unsigned long bytes = code ? (unsigned long)code->functions->size(code) : 0;
        printf("%s %.2f %lu %s\n", result < 0 ? "refused" : "ok", seconds, bytes, line);
        if (result < 0) {
            refused++;
            printf("%s\n", messages ? (const char *)messages->functions->pointer(messages) : "no message");
        }
        fflush(stdout);
        if (code) code->functions->release(code);
        if (messages) messages->functions->release(messages);
        free(text);
    }
    return refused ? 1 : 0;
}
