// A click on the heading of a column sorts the table by it; a second click reverses the order.
document.querySelectorAll("article table").forEach((table) => {
  table.querySelectorAll("th").forEach((heading, column) => {
    heading.style.cursor = "pointer";
    heading.title = "Sort by this column";
    heading.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const text = (row) => row.cells[column].textContent.trim();
      const number = (row) => parseFloat(text(row).replace("−", "-"));
      const compare = (a, b) => {
        if ((text(a) === "") !== (text(b) === "")) return text(a) === "" ? 1 : -1;
        const difference = number(a) - number(b);
        const order = Number.isNaN(difference) ? text(a).localeCompare(text(b)) : difference;
        return up ? order : -order;
      };
      const body = table.tBodies[0];
      [...body.rows].sort(compare).forEach((row) => body.append(row));
    });
  });
});
