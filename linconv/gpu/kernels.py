"""CUDA C++ for CSR arrays and products, from the tables of `tables`; text only.

`matrices.source` defines `REAL`, `PARTS` (2 for complex numbers), `INDEX` and `EACH` before
the source.  A kernel writes every number once, in a fixed order, and reads none of its
results; only the threads of a block share memory.
"""

from __future__ import annotations

# Results of a product that each thread computes.
EACH = 4

SOURCE = r"""
typedef long long place;
struct alignas(PARTS * sizeof(REAL)) value { REAL part[PARTS]; };

// The head of an axis in the table; LATER fields are products over the axes after it.
enum { LENGTH, LATER_LENGTHS, LATER_ENTRIES, LATER_TEMPLATES, POSITIONS, STENCILS, COLUMNS,
       TAPS, HEAD };
enum { MOST_AXES = 16 };

__device__ inline place head(const place* table, int axis, int field)
{
    return table[HEAD * axis + field];
}

// The column of a combination of entries, one of each axis's stencil.
__device__ inline place column_of(const place* table, place axes, const place* entry)
{
    place column = 0;
    for (int a = 0; a < axes; a++) column += table[head(table, a, COLUMNS) + 3 * entry[a]];
    return column;
}

// The weighted sum of the kernel over all combinations of each axis's taps.
__device__ inline value mixed_taps(
    const place* table, const place* sizes, const value* taps, place axes, const place* entry,
    place kernel)
{
    place tap[MOST_AXES];
    for (int a = 0; a < axes; a++)
        tap[a] = table[head(table, a, COLUMNS) + 3 * entry[a] + 1];
    value total = {};
    for (;;) {
        place at = kernel;
        REAL weight = 1;
        for (int a = 0; a < axes; a++) {
            const place* mixed = table + head(table, a, TAPS) + 2 * tap[a];
            at = at * sizes[a] + mixed[0];
            weight *= (REAL) mixed[1];
        }
        for (int p = 0; p < PARTS; p++) total.part[p] += weight * taps[at].part[p];
        int a = (int) axes - 1;
        for (; a >= 0; a--) {
            const place* found = table + head(table, a, COLUMNS) + 3 * entry[a];
            if (++tap[a] < found[2]) break;
            tap[a] = found[1];
        }
        if (a < 0) return total;
    }
}

// Columns and values of all templates, by one thread for each entry and channel of rows.
extern "C" __global__ void write_templates(
    const place* table, const place* sizes, const value* taps, INDEX* columns, value* values,
    place axes, place per_group, place plane, place channels, place templates)
{
    place thread = blockIdx.x * (place) blockDim.x + threadIdx.x;
    place size = per_group * templates;
    if (thread >= size * channels) return;
    place row_channel = thread / size, rest = thread % size, e = rest;

    // The stencil of each axis, and the entry of that stencil.
    place stencil[MOST_AXES], entry[MOST_AXES];
    place width = per_group;
    for (int a = 0; a < axes; a++) {
        place after = head(table, a, LATER_TEMPLATES);
        const place* stencils = table + head(table, a, STENCILS);
        place which = rest / (width * after), low = 0;
        place high = (head(table, a, COLUMNS) - head(table, a, STENCILS)) / 2 - 1;
        while (low < high) {  // the last stencil that begins at or before `which`
            place middle = (low + high + 1) / 2;
            if (stencils[2 * middle] <= which) low = middle; else high = middle - 1;
        }
        stencil[a] = low;
        rest -= stencils[2 * low] * width * after;
        width *= stencils[2 * low + 1];
    }
    for (int a = (int) axes - 1; a >= 0; a--) {
        const place* stencils = table + head(table, a, STENCILS);
        place count = stencils[2 * stencil[a] + 1];
        entry[a] = stencils[2 * stencil[a]] + rest % count;
        rest /= count;
    }

    // The remaining `rest` is the channel of the columns.
    if (row_channel == 0) columns[e] = (INDEX) (rest * plane + column_of(table, axes, entry));
    place kernel = row_channel * per_group + rest;
    values[thread] = mixed_taps(table, sizes, taps, axes, entry, kernel);
}

// The properties that a line of rows, all positions of the last axis, shares.
struct line {
    place channel, position, width, begin, start, shift;
};

// Find a line by Horner's rule over the outer axes; `start` lacks what precedes a channel.
__device__ inline line find_line(const place* table, int last, place which, place per_channel,
                                 place per_group)
{
    place length = head(table, last, LENGTH), rest = which % per_channel;
    line found = {which / per_channel, rest * length, per_group, 0, 0, 0};
    for (int a = 0; a < last; a++) {
        place lines = head(table, a, LATER_LENGTHS) / length;
        const place* at = table + head(table, a, POSITIONS) + 3 * (rest / lines);
        const place* stencil = table + head(table, a, STENCILS) + 2 * at[0];
        rest %= lines;
        found.start += found.width * at[2] * head(table, a, LATER_ENTRIES);
        found.begin += found.width * stencil[0] * head(table, a, LATER_TEMPLATES);
        found.shift += at[1];
        found.width *= stencil[1];
    }
    return found;
}

// Each block writes `together` rows of a line.  Their entries are contiguous, and successive
// threads write successive entries; shared memory holds the first entry of every row.
extern "C" __global__ void write_rows(
    const place* table, const place* bases, const INDEX* columns, const value* values,
    INDEX* indptr, INDEX* indices, value* data,
    place axes, place per_group, place per_channel, place templates, place together,
    place first, place pitch, place rows_apart)
{
    extern __shared__ value shared_memory[];
    INDEX* starts = (INDEX*) shared_memory;  // of rows, and the end of the last
    INDEX *begins = starts + together + 1, *shifts = begins + together;
    int last = (int) axes - 1, step = (int) blockDim.x;
    place length = head(table, last, LENGTH), pieces = (length + together - 1) / together;
    place before = blockIdx.x % pieces * together;
    int rows = (int) (before + together < length ? together : length - before);
    line found = find_line(table, last, blockIdx.x / pieces, per_channel, per_group);
    found.start += first + found.channel * pitch;
    found.shift += bases[found.channel];
    indptr += found.channel * rows_apart + found.position + before;
    for (int row = (int) threadIdx.x; row < rows; row += step) {
        const place* at = table + head(table, last, POSITIONS) + 3 * (before + row);
        const place* stencil = table + head(table, last, STENCILS) + 2 * at[0];
        place start = found.start + found.width * at[2];
        indptr[row] = starts[row] = (INDEX) start;
        begins[row] = (INDEX) (found.begin + found.width * stencil[0]);
        shifts[row] = (INDEX) (found.shift + at[1]);
        if (row == rows - 1) starts[rows] = (INDEX) (start + found.width * stencil[1]);
    }
    __syncthreads();
    const value* source = values + found.channel * per_group * templates;
    // Threads start at a multiple of 32, so that a warp writes aligned memory.
    INDEX base = starts[0] / 32 * 32;
    unsigned lead = (unsigned) (starts[0] - base), end = (unsigned) (starts[rows] - base);
    float rate = (float) rows / (float) (end - lead);  // rows per entry, on average
    for (unsigned at = threadIdx.x; at < end; at += blockDim.x) {
        if (at < lead) continue;
        // Find the last row that begins at or before e, mostly within 1 of the average.
        INDEX e = base + (INDEX) at;
        int guess = (int) ((float) (at - lead) * rate);
        int low = guess > 1 ? guess - 1 : 0, high = guess + 1 < rows ? guess + 1 : rows - 1;
        if (starts[low] > e) high = low - 1, low = 0;
        else if (starts[high + 1] <= e) low = high + 1, high = rows - 1;
        while (low < high) {
            int middle = (low + high + 1) / 2;
            if (starts[middle] <= e) low = middle; else high = middle - 1;
        }
        INDEX from = begins[low] + (e - starts[low]);
        indices[e] = columns[from] + shifts[low];
        data[e] = source[from];
    }
}

// Rows with a kernel each share the pattern but no values.  One thread writes a row.
extern "C" __global__ void write_varying(
    const place* table, const place* sizes, const value* taps,
    INDEX* indptr, INDEX* indices, value* data, place axes, place rows)
{
    place row = blockIdx.x * (place) blockDim.x + threadIdx.x;
    if (row >= rows) return;
    place rest = row, start = 0, width = 1, shift = 0, entry[MOST_AXES];
    const place* stencil[MOST_AXES];
    for (int a = 0; a < axes; a++) {
        place later = head(table, a, LATER_LENGTHS);
        const place* at = table + head(table, a, POSITIONS) + 3 * (rest / later);
        stencil[a] = table + head(table, a, STENCILS) + 2 * at[0];
        rest %= later;
        start += width * at[2] * head(table, a, LATER_ENTRIES);
        width *= stencil[a][1];
        shift += at[1];
    }
    indptr[row] = (INDEX) start;
    for (place e = 0; e < width; e++) {
        rest = e;
        for (int a = (int) axes - 1; a >= 0; a--) {
            entry[a] = stencil[a][0] + rest % stencil[a][1];
            rest /= stencil[a][1];
        }
        indices[start + e] = (INDEX) (column_of(table, axes, entry) + shift);
        data[start + e] = mixed_taps(table, sizes, taps, axes, entry, row);
    }
}

// Products are added one by one, each by a fused multiply-add.
__device__ inline void add_product(value& total, const value& a, const value& b)
{
    total.part[0] += a.part[0] * b.part[0];
#if PARTS == 2
    total.part[0] -= a.part[1] * b.part[1];
    total.part[1] += a.part[0] * b.part[1];
    total.part[1] += a.part[1] * b.part[0];
#endif
}

// Products without the matrix, y = C x for contiguous vectors.  A thread computes EACH
// positions of a line; if they share a stencil, it reads every tap once for all positions.
extern "C" __global__ void multiply(
    const place* table, const place* bases, const INDEX* columns, const value* values,
    const value* x, value* y,
    place axes, place per_group, place per_channel, place templates, place lines,
    place x_size, place y_size)
{
    int last = (int) axes - 1;
    place length = head(table, last, LENGTH), together = (place) blockDim.x * EACH;
    place pieces = (length + together - 1) / together, job = blockIdx.x / pieces;
    line found = find_line(table, last, job % lines, per_channel, per_group);
    const place* positions = table + head(table, last, POSITIONS);
    const place* stencils = table + head(table, last, STENCILS);
    const value* input = x + job / lines * x_size + bases[found.channel] + found.shift;
    place row = found.channel * per_channel * length + found.position;
    value* output = y + job / lines * y_size + row;
    place first = blockIdx.x % pieces * together + threadIdx.x, step = blockDim.x;
    bool alike = first + (EACH - 1) * step < length;  // whether one stencil serves them all
    for (int k = 1; alike && k < EACH; k++)
        alike = positions[3 * (first + k * step)] == positions[3 * first];
    place end = first + together < length ? first + together : length;
    for (place at = first; at < end; at += alike ? together : step) {
        const place* stencil = stencils + 2 * positions[3 * at];
        place begin = found.begin + found.width * stencil[0], width = found.width * stencil[1];
        const INDEX* read = columns + begin;
        const value* source = values + found.channel * per_group * templates + begin;
        value total[EACH] = {};
        if (alike) {
            place from[EACH];
            for (int k = 0; k < EACH; k++) from[k] = positions[3 * (at + k * step) + 1];
            for (place e = 0; e < width; e++)
                for (int k = 0; k < EACH; k++)
                    add_product(total[k], source[e], input[read[e] + from[k]]);
            for (int k = 0; k < EACH; k++) output[at + k * step] = total[k];
        } else {
            place from = positions[3 * at + 1];
            for (place e = 0; e < width; e++)
                add_product(total[0], source[e], input[read[e] + from]);
            output[at] = total[0];
        }
    }
}
"""
