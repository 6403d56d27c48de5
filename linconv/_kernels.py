"""CUDA C++ that writes CSR arrays from the tables of `_tables`; text only.

`REAL`, `PARTS` (2 for complex numbers) and `INDEX` are put before the source.  Both
kernels write every number once, in order, and read nothing that they write.
"""

from __future__ import annotations

ASSEMBLY = r"""
typedef long long place;
struct alignas(PARTS * sizeof(REAL)) value { REAL part[PARTS]; };

// The head of an axis in the table; "later" are the products of the axes after it.
enum { LENGTH, LATER_LENGTHS, LATER_ENTRIES, LATER_TEMPLATES, POSITIONS, STENCILS, COLUMNS,
       TAPS, HEAD };
enum { MOST_AXES = 16 };

__device__ inline place head(const place* table, int axis, int field)
{
    return table[HEAD * axis + field];
}

// Columns and values of all templates: one thread for each entry and channel of rows.
extern "C" __global__ void write_templates(
    const place* table, const place* sizes, const value* taps, INDEX* columns, value* values,
    place axes, place per_group, place plane, place channels, place templates)
{
    place thread = blockIdx.x * (place) blockDim.x + threadIdx.x;
    place size = per_group * templates;
    if (thread >= size * channels) return;
    place row_channel = thread / size, rest = thread % size, e = rest;

    // Which stencil of each axis, and which of its entries.
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

    // What is left of `rest` is the channel of the columns.
    place column = rest * plane;
    place tap[MOST_AXES], kernel = row_channel * per_group + rest;
    for (int a = 0; a < axes; a++) {
        const place* found = table + head(table, a, COLUMNS) + 3 * entry[a];
        column += found[0];
        tap[a] = found[1];
    }
    if (row_channel == 0) columns[e] = (INDEX) column;

    // Add up all combinations of the taps that are mixed along each axis.
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
        if (a < 0) break;
    }
    values[thread] = total;
}

// Rows of one line per block and chunk: `lanes` neighbouring threads share a row.
extern "C" __global__ void write_rows(
    const place* table, const place* bases, const INDEX* columns, const value* values,
    INDEX* indptr, INDEX* indices, value* data,
    place axes, place per_group, place per_channel, place templates, place lanes,
    place first, place pitch, place rows_apart)
{
    int last = (int) axes - 1;
    place length = head(table, last, LENGTH), rows = blockDim.x / lanes;
    place chunks = (length + rows - 1) / rows;
    place line = blockIdx.x / chunks, chunk = blockIdx.x % chunks;
    place channel = line / per_channel, rest = line % per_channel;

    // Where this line begins: by Horner's rule over the outer axes.
    place start = first + channel * pitch, begin = 0, shift = bases[channel];
    place width = per_group;
    for (int a = 0; a < last; a++) {
        place lines = head(table, a, LATER_LENGTHS) / length;
        const place* at = table + head(table, a, POSITIONS) + 3 * (rest / lines);
        const place* stencil = table + head(table, a, STENCILS) + 2 * at[0];
        rest %= lines;
        start += width * at[2] * head(table, a, LATER_ENTRIES);
        begin += width * stencil[0] * head(table, a, LATER_TEMPLATES);
        shift += at[1];
        width *= stencil[1];
    }

    place position = chunk * rows + threadIdx.x / lanes;
    if (position >= length) return;
    const place* at = table + head(table, last, POSITIONS) + 3 * position;
    const place* stencil = table + head(table, last, STENCILS) + 2 * at[0];
    start += width * at[2];
    begin += width * stencil[0];
    shift += at[1];
    width *= stencil[1];
    place lane = threadIdx.x % lanes;
    place row = channel * rows_apart + line % per_channel * length + position;
    if (lane == 0) indptr[row] = (INDEX) start;
    const value* source = values + channel * per_group * templates + begin;
    for (place e = lane; e < width; e += lanes) {
        indices[start + e] = (INDEX) (columns[begin + e] + shift);
        data[start + e] = source[e];
    }
}
"""
